"""tune: the halving on made-up rates, what is remembered, what `auto` makes of it, and a real search."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from edgecxr import Classifier
from edgecxr.bundle import Bundle, load
from edgecxr.device import tune as search
from edgecxr.engines import Outputs, ov, select
from edgecxr.engines.select import Asked
from edgecxr.errors import DeviceMemoryError, GateError, StorageError
from edgecxr.scoring import pipeline
from edgecxr.scoring import remembered as tuned
from edgecxr.scoring.remembered import Configuration
from edgecxr.scoring.session import Plan, Session, open_session
from edgecxr.system import machine

WINNER = Configuration("model.fp32.onnx", "openvino", "cpu", "fp32", 3, 1, 2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return load(tiny_bundle)


def candidates(count: int) -> list[search.Candidate]:
    return [
        search.Candidate(replace(WINNER, workers=number + 1), None)  # type: ignore[arg-type]  # halving needs no choice
        for number in range(count)
    ]


def race(rates: list[float], budget: float = 60.0) -> tuple[list[search.Candidate], list[tuple[int, float]]]:
    """Halve candidates of these rates; the calls that were made, as (place, seconds)."""
    racing, calls = candidates(len(rates)), []

    def measure(candidate: search.Candidate, seconds: float) -> float:
        calls.append((racing.index(candidate), seconds))
        return rates[racing.index(candidate)]

    search.halve(racing, measure, lambda: budget - sum(seconds for _, seconds in calls))
    return racing, calls


def test_the_slower_half_is_left_out_after_each_round_and_turns_are_taken() -> None:
    racing, calls = race([5, 8, 1, 2, 7, 3, 6, 4])
    assert [place for place, _ in calls[:16]] == [*range(8), *range(8)]
    assert [len(c.rates) for c in racing] == [9, 9, 3, 3, 6, 3, 6, 3]
    assert {c.configuration.workers - 1 for c in racing if not c.left_out} == {0, 1}
    assert racing[2].left_out == "slower, after round 1"
    assert racing[4].left_out == "slower, after round 2"
    assert sum(seconds for _, seconds in calls) == pytest.approx(60)
    longest = {place: max(s for p, s in calls if p == place) for place in (2, 4, 1)}
    assert longest[2] == pytest.approx(longest[4] / 2) == pytest.approx(longest[1] / 4)  # ever more for ever fewer


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_candidates(count: int) -> None:
    racing, calls = race([float(n + 1) for n in range(count)])
    assert not racing[-1].left_out
    assert all(c.rates for c in racing)
    assert len({place for place, _ in calls}) == count


def test_no_lap_begins_when_the_time_is_over_but_for_the_first() -> None:
    racing, _ = race([3, 2, 1, 4], budget=0.0)
    assert [len(c.rates) for c in racing] == [1, 1, 1, 1]


def test_at_most_eight_configurations_and_each_choice_among_them(bundle: Bundle) -> None:
    found = [
        select.Choice(bundle.artifacts[0], engine, "cpu", "fp32") for engine in ("onnxruntime", "openvino", "litert")
    ]
    ways = search.configurations(found, cpus=4)
    assert len(ways) == len(set(ways)) == 8
    assert [(c.engine, c.workers, c.threads, c.batch_size) for c in ways[:3]] == [
        ("onnxruntime", 4, 1, 1), ("openvino", 4, 1, 1), ("litert", 4, 1, 1)
    ]  # fmt: skip
    one = search.configurations(found[:1], cpus=1)
    assert [(c.workers, c.threads, c.batch_size) for c in one] == [(1, 1, 1), (1, 1, 4), (2, 1, 1)]
    many = search.configurations(found * 4, cpus=2)
    assert len(many) == 8
    gpu = search.configurations([replace(found[0], device="cuda")], cpus=16)
    assert {c.batch_size for c in gpu} == {32, 128, 8}
    assert all((c.workers, c.threads) == (16, 1) for c in gpu)


def test_a_gain_within_the_margin_changes_nothing() -> None:
    usual, other = candidates(2)
    other.rates, usual.rates = [101.0] * 9, [100.0] * 9
    assert search._ordered([other, usual], usual.configuration)[0] is usual
    other.left_out, other.rates = "", [103.0] * 9
    assert search._ordered([other, usual], usual.configuration)[0] is other
    usual.rates = []  # it can't be run
    other.rates = [1.0]
    assert search._ordered([usual, other], usual.configuration)[0] is other


def test_a_gain_that_chance_explains_changes_nothing() -> None:
    usual, other = candidates(2)
    other.rates, usual.rates = [140.0] * 3, [100.0] * 3  # two of the same speed do that one time in eight
    assert search.chance(other.rates, usual.rates) == 1 / 8
    assert search._ordered([other, usual], usual.configuration)[0] is usual
    assert other.left_out == "faster by no more than chance explains"
    other.left_out = ""
    other.rates, usual.rates = [140.0] * 6 + [90.0] * 3, [100.0] * 9
    assert search.chance(other.rates, usual.rates) == pytest.approx(130 / 512)
    assert search._ordered([other, usual], usual.configuration)[0] is usual
    other.left_out, other.rates[-3:] = "", [140.0, 90.0, 90.0]
    assert search.chance(other.rates, usual.rates) == pytest.approx(46 / 512)
    assert search._ordered([other, usual], usual.configuration)[0] is other


def test_what_is_usual_stays_to_the_end() -> None:
    racing, _ = race([1, 8, 2, 7])
    assert [len(c.rates) for c in racing] == [6, 6, 3, 3]
    assert [bool(c.left_out) for c in racing] == [False, False, True, True]


def test_batches_that_do_not_fit_are_left_out(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Path]
) -> None:
    real = search.pipeline.stream

    def stream(session: Session, *rest: Any) -> Any:
        if session.engine.name == "openvino":
            raise DeviceMemoryError("the memory of the GPU doesn't suffice")
        if session.plan.workers == 1:
            session.say("batches of 1 are used from here on")
        return real(session, *rest)

    monkeypatch.setattr(search.pipeline, "stream", stream)
    found = search.tune(bundle, [picture(f"{i}.png", seed=i) for i in range(4)], Asked(precision="int8"), seconds=1)
    reasons = {c.left_out for c in found.candidates if c.configuration.engine == "openvino"}
    assert reasons == {"the memory of the GPU doesn't suffice"}
    halved = [c for c in found.candidates if c.configuration.engine == "onnxruntime" and c.configuration.workers == 1]
    assert {c.left_out for c in halved} <= {"batches of 1 are used from here on"}
    assert found.winner.configuration.engine == "onnxruntime"


def test_auto_takes_what_is_remembered(bundle: Bundle, picture: Callable[..., Path]) -> None:
    assert not open_session(bundle).tuned
    tuned.remember(bundle, WINNER, {})
    session = open_session(bundle)
    assert session.tuned
    assert (session.engine.name, session.engine.precision, session.artifact.file) == (
        "openvino", "fp32", "model.fp32.onnx"
    )  # fmt: skip
    assert session.plan == Plan(3, 1, 2)
    path = picture()
    prediction = next(pipeline.stream(session, [path]))
    assert prediction.provenance.engine == "openvino"
    assert tuned.forget(bundle)
    assert not tuned.forget(bundle)
    assert open_session(bundle).engine.name == "onnxruntime"


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ({"engine": "openvino"}, True),
        ({"device": "cpu"}, True),
        ({"precision": "fp32", "engine": "openvino"}, True),
        ({"engine": "onnxruntime"}, False),
        ({"precision": "int8"}, False),
        ({"precision": "int8", "engine": "openvino"}, False),
    ],
)
def test_what_is_asked_for_by_name_is_not_contradicted(bundle: Bundle, asked: dict[str, str], taken: bool) -> None:
    tuned.remember(bundle, WINNER, {})
    session = open_session(bundle, Asked(**asked))
    assert session.tuned is taken
    if not taken:
        assert asked.get("engine", session.engine.name) == session.engine.name
        assert asked.get("precision", session.engine.precision) == session.engine.precision


def test_numbers_that_were_asked_for_are_kept(bundle: Bundle) -> None:
    tuned.remember(bundle, WINNER, {})
    session = open_session(bundle, workers=1)
    assert (session.tuned, session.engine.name, session.plan.workers, session.plan.batch_size) == (
        True,
        "openvino",
        1,
        1,
    )
    assert Classifier(bundle).session.engine.name == "openvino"


def test_another_machine_or_bundle_or_version_is_another_matter(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tuned.remember(bundle, WINNER, {})
    other = load(tiny.write_bundle(tmp_path / "other.edgecxr", version="2"))
    assert tuned.remembered(other) == (None, None)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "cpus", lambda: 77)
        assert tuned.remembered(bundle) == (None, None)
    with monkeypatch.context() as patch:
        patch.setattr(machine, "package_version", lambda name: "other")
        assert tuned.remembered(bundle) == (None, None)
    assert tuned.remembered(bundle) == (WINNER, None)


def changed(content: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**content, "configuration": {**content["configuration"], **changes}}).encode()


def test_a_damaged_file_is_passed_over_with_a_note(bundle: Bundle) -> None:
    path = tuned.remember(bundle, WINNER, {})
    content = json.loads(path.read_text())
    damaged = [
        b"",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"schema": 1}',
        path.read_bytes()[:-30],
        b" " * (1 << 17) + path.read_bytes(),
        json.dumps({**content, "schema": 2}).encode(),
        json.dumps({**content, "bundle_sha256": "0" * 64}).encode(),
        json.dumps({**content, "hardware_sha256": "0" * 64}).encode(),
        changed(content, engine="another"),
        changed(content, engine=["openvino"]),
        changed(content, engine="litert"),  # which can't run an ONNX file
        changed(content, device="tpu"),
        changed(content, precision="int8"),  # which isn't that file's
        changed(content, precision="fp16"),
        changed(content, artifact="../../elsewhere.onnx"),
        changed(content, artifact=None),
        changed(content, workers=0),
        changed(content, workers=10**9),
        changed(content, workers=True),
        changed(content, threads="2"),
        changed(content, batch_size=1.5),
        changed(content, more=1),
    ]
    for data in damaged:
        path.write_bytes(data)
        found, note = tuned.remembered(bundle)
        assert found is None, data[:200]
        assert note is not None
        assert "passed over" in note
    session = open_session(bundle)
    assert (session.tuned, session.engine.name, len(session.notes)) == (False, "onnxruntime", 1)


def test_no_altered_byte_ever_picks_what_is_not_there(bundle: Bundle) -> None:
    path = tuned.remember(bundle, WINNER, {"pictures_per_second": 1.5})
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        found, _ = tuned.remembered(bundle)
        if found is not None:
            choice = tuned.choice(bundle, found)
            assert (choice.artifact.file, choice.engine, choice.precision) == ("model.fp32.onnx", "openvino", "fp32")
            assert all(1 <= count <= 4096 for count in (found.workers, found.threads, found.batch_size))


def test_an_engine_that_is_gone_or_broken_is_passed_over(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.remember(bundle, WINNER, {})
    with monkeypatch.context() as patch:
        patch.setattr(tuned, "installed_engines", lambda: ("onnxruntime",))
        assert tuned.remembered(bundle)[0] is None

    def broken() -> object:
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(ov, "_import", broken)
    session = open_session(bundle)
    assert session.engine.name == "onnxruntime"
    assert not session.tuned
    assert "tune again" in session.notes[0]


def test_places_that_cannot_be_written_are_an_error(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    cache.write_text("a file where the folder would be")
    with pytest.raises(StorageError, match="can't be remembered"):
        tuned.remember(bundle, WINNER, {})
    assert tuned.remembered(bundle) == (None, None)
    monkeypatch.setattr(machine, "cache_folder", lambda: None)
    with pytest.raises(StorageError, match="no home folder"):
        tuned.remember(bundle, WINNER, {})
    assert tuned.remembered(bundle) == (None, None)


def test_what_strays_from_the_golden_answers_is_left_out(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Path]
) -> None:
    real = ov.OpenVinoEngine.run
    monkeypatch.setattr(ov.OpenVinoEngine, "run", lambda self, images: tiny.outputs(real(self, images).logits + 1))
    files = [picture(f"{i}.png", seed=i) for i in range(4)]
    found = search.tune(bundle, files, Asked(precision="int8"), seconds=1)
    assert {c.configuration.engine for c in found.candidates if c.left_out == "fails verify"} == {"openvino"}
    assert found.winner.configuration.engine == "onnxruntime"
    with pytest.raises(GateError, match=r"nothing .* gives the bundle's answers"):
        search.tune(bundle, files, Asked(engine="openvino", precision="int8"), seconds=1)


def test_pictures_that_abstain_are_tuned_on_as_any_other(tmp_path: Path, picture: Callable[..., Path]) -> None:
    bundle = load(tiny.write_bundle(tmp_path / "t.edgecxr", abstain_at=-1e3))
    found = search.tune(
        bundle, [picture(f"{i}.png", seed=i) for i in range(4)], Asked("onnxruntime", precision="int8"), seconds=0.5
    )
    assert {c.label_changes for c in found.candidates} == {0}  # compared, by what the network says


def test_what_strays_on_the_pictures_alone_is_left_out_too(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Path]
) -> None:
    """The golden inputs are few; answers are compared on the pictures as well."""
    real, golden = ov.OpenVinoEngine.run, [image.tobytes() for image in bundle.golden_inputs()]

    def strays(self: ov.OpenVinoEngine, images: np.ndarray) -> Outputs:
        return tiny.outputs(real(self, images).logits + (0 if images.tobytes() in golden else 1))

    monkeypatch.setattr(ov.OpenVinoEngine, "run", strays)
    found = search.tune(bundle, [picture(f"{i}.png", seed=i) for i in range(4)], Asked(precision="int8"), seconds=1)
    reasons = {c.left_out for c in found.candidates if c.configuration.engine == "openvino"}
    assert reasons == {"strays on the pictures from its artifact's answers by more than verify accepts"}


def test_the_command(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], tiny_bundle: Path, cache: Path, samples: Path
) -> None:
    done = edgecxr("tune", samples, "-m", tiny_bundle, "--seconds", 1, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert 2 <= len(report["configurations"]) <= 8
    assert report["pictures"] == len(list(samples.iterdir()))
    kept = list((cache / "edgecxr" / "tune").iterdir())
    assert len(kept) == 1
    assert json.loads(kept[0].read_text())["configuration"] == report["winner"]
    summary = json.loads(edgecxr("infer", samples, "-m", tiny_bundle, "--json", "-q").stdout)
    names = ("engine", "device", "precision", "workers", "threads", "batch_size")
    assert {name: summary[name] for name in names} == {name: report["winner"][name] for name in names}
    assert summary["tuned"] is True
    assert edgecxr("tune", "-m", tiny_bundle, "--forget").stderr.strip() == "forgotten"
    assert not list((cache / "edgecxr" / "tune").iterdir())
    assert edgecxr("tune", samples, "-m", tiny_bundle, "--forget").returncode == 2
