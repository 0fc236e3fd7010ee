"""Answered pictures with their evidence: of the run that answered, named by content, nothing replaced unasked."""

from __future__ import annotations

import errno
import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny
from edgecxr import Classifier, errors
from edgecxr.bundle import load
from edgecxr.engines import Outputs
from edgecxr.engines.select import Asked
from edgecxr.pictures.decode import Picture
from edgecxr.records.prediction import Prediction
from edgecxr.records.reader import Records, Row
from edgecxr.scoring import overlays, pipeline
from edgecxr.scoring.session import Session, open_session
from edgecxr.views import overlay

Run = Callable[..., subprocess.CompletedProcess[str]]
Seen = list[tuple[Prediction, Picture, np.ndarray]]


class Counting:
    """An engine that counts the pictures that it runs."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.pictures = engine, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, images: np.ndarray) -> Outputs:
        self.pictures += len(images)
        outputs: Outputs = self._engine.run(images)
        return outputs


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Session:
    return open_session(load(tiny_bundle), Asked(device="cpu"), workers=2, batch_size=3)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_seen_is_of_the_one_run_that_answered(session: Session, picture: Callable[..., Path]) -> None:
    paths = [picture(f"{i}.png", seed=i) for i in range(7)]
    broken = picture("broken.png")
    broken.write_bytes(broken.read_bytes()[:200])
    engine = Counting(session.engine)
    seen: Seen = []
    counted = replace(session, engine=engine)
    found = list(pipeline.stream(counted, [*paths, broken], look=lambda *one: seen.append(one)))
    assert engine.pictures == 8  # two batches of three, and one of two with the broken one's place in it
    assert sorted(p.path or "" for p, _, _ in seen) == sorted(map(str, paths))
    assert [p.status for p in found] == ["scored"] * 7 + ["rejected"]
    for prediction, shown, evidence in seen:
        np.testing.assert_allclose(evidence.sum(axis=(0, 1)) + tiny.BIAS, list(prediction.logits.values()), atol=1e-4)
        assert shown.pixels.shape == (80, 96)


def test_nobody_looks_and_nothing_is_kept(session: Session, picture: Callable[..., Path]) -> None:
    item = pipeline._prepared(session, picture())
    assert item.image is not None and item.picture is None


def test_an_overlay_is_the_picture_beside_its_evidence(tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    classifier, path = Classifier(tiny_bundle), picture()
    drawn = classifier.overlay(path)
    label = classifier.predict(path).label
    evidence = classifier.evidence(path)[..., classifier.labels.index(label)]  # type: ignore[arg-type]
    pixels = np.asarray(Image.open(path))
    beside = overlay.side_by_side(pixels, evidence, overlay.SHEET)
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3
    assert any((drawn[row : row + 80, : beside.shape[1]] == beside).all() for row in range(len(drawn) - 80))
    np.testing.assert_array_equal(classifier.overlay(pixels), drawn)  # an array of it; words name no file
    with pytest.raises(errors.PictureRejected):
        classifier.overlay(b"no picture")


def test_sixteen_bits_are_shown_as_they_are_read(tiny_bundle: Path) -> None:
    deep = (np.arange(96 * 80).reshape(80, 96) * 8 % 4096).astype(np.uint16)
    classifier = Classifier(tiny_bundle)
    eight = np.rint(deep / 4095 * 255).astype(np.uint8)
    drawn = classifier.overlay(deep)
    assert any((drawn[row : row + 80, :96, 0] == eight).all() for row in range(len(drawn) - 80))


def test_abstained_is_no_answer(session: Session, picture: Callable[..., Path]) -> None:
    seen: Seen = []
    pipeline.score(session, [picture()], lambda *one: seen.append(one))
    prediction, shown, evidence = seen[0]
    answered = overlays.drawn(session.bundle, prediction, shown, evidence)
    silent = overlays.drawn(
        session.bundle, replace(prediction, status="abstained", label=None, ood_score=3.5), shown, evidence
    )
    height = min(len(answered), len(silent)) - 60
    assert (silent[:40] != answered[:40]).any()  # the heading
    assert (silent[-height:] == answered[-height:]).all()  # the pictures are the same


def test_the_command_writes_one_of_each_answered_picture(
    tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path, edgecxr: Run
) -> None:
    paths = [picture(f"in/{i}.png", seed=i) for i in range(3)]
    (tmp_path / "in" / "text.png").write_text("no picture")
    folder = tmp_path / "in" / "drawn"  # among the pictures, and none of them
    call = ("infer", tmp_path / "in", "-m", tiny_bundle, "--overlay", folder, "-o", tmp_path / "r.jsonl")
    assert edgecxr(*call).returncode == 1
    assert {path.name for path in folder.iterdir()} == {f"{sha256(path)}.png" for path in paths}
    classifier = Classifier(tiny_bundle)
    for path in paths:
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{sha256(path)}.png")), classifier.overlay(path))
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    done = edgecxr(*call[:-1], tmp_path / "other.jsonl")
    assert done.returncode == 2 and "isn't empty" in done.stderr
    assert not (tmp_path / "other.jsonl").exists()
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept
    assert edgecxr(*call, "--overwrite").returncode == 1
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 4
    picture("in/later.png", seed=9)
    assert edgecxr(*call, "--resume").returncode == 1
    assert len(list(folder.iterdir())) == 4


def test_a_name_is_on_a_picture_only_where_it_was_asked_for(
    tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path, edgecxr: Run
) -> None:
    one, other = picture("in/one/MUELLER.png"), picture("in/other/SCHMIDT.png")
    assert one.read_bytes() == other.read_bytes()

    def drawn(path: Path, name: str, *more: str) -> np.ndarray:
        folder = tmp_path / name
        assert edgecxr("infer", path, "-m", tiny_bundle, "--overlay", folder, *more).returncode == 0
        (file,) = folder.iterdir()
        assert file.name == f"{sha256(path)}.png"
        return np.asarray(Image.open(file))

    plain = drawn(one, "a")
    np.testing.assert_array_equal(drawn(other, "b"), plain)
    named, also = drawn(one, "c", "--show-names"), drawn(other, "d", "--show-names")
    assert len(named) > len(plain) and (named != also).any()


@pytest.mark.parametrize(
    "options",
    [
        ("--overlay", "d", "--stdin"),
        ("in", "--show-names"),
        ("in", "--overlay", "d", "--show-names", "--id", "hash"),
    ],
)
def test_what_does_not_go_together_is_refused(options: tuple[str, ...], edgecxr: Run, tmp_path: Path) -> None:
    given = [tmp_path / name if name in ("d", "in") else name for name in options]
    done = edgecxr("infer", *given)
    assert done.returncode == 2 and "--overlay" in done.stderr
    assert not (tmp_path / "d").exists()


def test_a_folder_that_can_not_be_made_is_refused_before_the_work(tmp_path: Path, edgecxr: Run, samples: Path) -> None:
    (tmp_path / "file").touch()
    done = edgecxr("infer", samples, "--overlay", tmp_path / "file")
    assert done.returncode == 2 and "can't be made" in done.stderr


def test_a_full_disk_ends_the_run_with_the_records_before_it(
    tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path, edgecxr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("in/a.png")
    full = picture("in/b.png", seed=1)
    whole = overlays.storage.replacing_bytes

    def write(path: Path) -> Any:
        if path.stem == sha256(full):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path)

    monkeypatch.setattr(overlays.storage, "replacing_bytes", write)
    call = ("infer", tmp_path / "in", "-m", tiny_bundle, "--overlay", tmp_path / "d", "-o", tmp_path / "r.jsonl")
    done = edgecxr(*call)
    assert done.returncode == 70 and "can't be kept (No space left on device)" in done.stderr
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == len(list((tmp_path / "d").iterdir())) == 1
    monkeypatch.undo()
    assert edgecxr(*call, "--resume").returncode == 0
    assert len(list((tmp_path / "d").iterdir())) == 2


def records(*rows: tuple[str, float | None]) -> Records:
    """Of (status, confidence or ood score)."""
    made = (3, "tiny 1", "c" * 64, "e", "p", "cpu", "int8", None, None)
    found = []
    for index, (status, value) in enumerate(rows):
        p = value or 0.0
        label, shares = ("a", (p, 1 - p)) if status == "scored" else (None, ())
        found.append(Row(str(index), "0" * 64, status, label, shares, value, None, None, 1, 1, 8, None, "", made))
    return Records("r.jsonl", "0" * 64, ("a", "b"), tuple(found), 0)


def test_the_least_sure_and_the_furthest_come_first() -> None:
    found = records(
        ("scored", 0.9), ("scored", 0.6), ("abstained", 3.0), ("scored", 0.7), ("rejected", None), ("abstained", 5.0),
        ("abstained", None),
    )  # fmt: skip
    assert overlays.chosen(found, "uncertain", 2) == [1, 3]
    assert overlays.chosen(found, "abstained", 9) == [5, 2, 6]
    assert overlays.chosen(found, "both", 4) == [5, 2, 1, 3]
    assert overlays.chosen(found, "both", 6) == [5, 2, 6, 1, 3, 0]
    assert overlays.chosen(found, "both", 5) == [5, 2, 1, 3, 0]
    assert overlays.chosen(records(("scored", 0.9), ("scored", 0.6)), "both", 2) == [1, 0]
