"""Which engine runs what: the policy, and what is said where an engine, a format or a precision isn't there."""

import ast
import json
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edgecxr import Classifier
from edgecxr.bundle import Bundle, load
from edgecxr.cli import options
from edgecxr.device.verify import verify
from edgecxr.engines import ort, ov, select
from edgecxr.engines.select import ANYTHING, Asked, choices, choose, choose_artifact, choose_engine, installed_engines
from edgecxr.errors import BundleError, UnavailableError, UsageError
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session

ALL = ("onnxruntime", "openvino", "litert")
MODULES = ("onnxruntime", "openvino", "ai_edge_litert")


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return load(tiny_bundle)  # holds ONNX files in fp32 and int8


@pytest.fixture(scope="module")
def both(both_formats: Path) -> Bundle:
    return load(both_formats)


def tflite_only(bundle: Bundle) -> Bundle:
    return replace(bundle, artifacts=tuple(replace(a, format="tflite") for a in bundle.artifacts))


@pytest.mark.parametrize(
    ("device", "precision", "installed", "engine"),
    [
        ("auto", "auto", ALL, "onnxruntime"),
        ("auto", "auto", ("openvino", "litert"), "openvino"),
        ("auto", "int8", ("openvino",), "openvino"),
        ("auto", "bf16", ALL, "openvino"),
        ("cuda", "auto", ALL, "onnxruntime"),
    ],
)
def test_auto_takes_the_first_installed_one_that_can(
    bundle: Bundle, device: str, precision: str, installed: tuple[str, ...], engine: str
) -> None:
    assert choose_engine(bundle, Asked("auto", device, precision), installed) == engine


def test_auto_takes_the_engine_of_the_format_that_is_there(bundle: Bundle) -> None:
    assert choose_engine(tflite_only(bundle), ANYTHING, ALL) == "litert"


@pytest.mark.parametrize(
    ("kind", "device", "precision", "installed", "message"),
    [
        ("onnx", "auto", "auto", (), "no inference engine is installed, run: pip install 'edgecxr[cpu]'"),
        ("onnx", "auto", "auto", ("litert",), "litert can't run this bundle, onnxruntime can; .*'edgecxr[cpu]'"),
        ("onnx", "cuda", "auto", ("openvino",), "openvino can't run this bundle, onnxruntime can; .*'edgecxr[gpu]'"),
        ("onnx", "auto", "bf16", ("onnxruntime",), "can't run this bundle in bf16, openvino can; .*[openvino]"),
        ("tflite", "auto", "auto", ("onnxruntime", "openvino"), "litert can; run: pip install 'edgecxr[litert]'"),
    ],
)
def test_what_none_of_them_can_run_is_said_with_the_repair(
    bundle: Bundle, kind: str, device: str, precision: str, installed: tuple[str, ...], message: str
) -> None:
    pattern = message.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(UnavailableError, match=pattern):
        choose_engine(bundle if kind == "onnx" else tflite_only(bundle), Asked("auto", device, precision), installed)


def test_an_engine_that_was_asked_for_is_not_replaced(bundle: Bundle, both: Bundle) -> None:
    for engine in ALL:
        assert choose_engine(bundle, Asked(engine), ()) == engine
        chosen = choose(both, Asked(engine=engine))
        assert (chosen.engine, chosen.device, chosen.precision) == (engine, "cpu", "int8")
        assert chosen.artifact.format == select.ROWS[engine].format


def as_symmetric(bundle: Bundle, *precisions: str) -> Bundle:
    """Its int8 file under the other name, with the files of those precisions."""
    (int8,) = (a for a in bundle.artifacts if a.precision == "int8")
    others = [a for a in bundle.artifacts if a.precision in precisions]
    renamed = replace(int8, precision="int8-symmetric", preferred=False)
    return replace(bundle, artifacts=(renamed, *others))


def test_symmetric_int8_is_taken_by_name_alone(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = Asked(precision="int8-symmetric")
    symmetric = as_symmetric(bundle, "fp32")
    assert choose(symmetric).artifact.precision == "fp32"
    assert choose(symmetric, by_name).artifact.precision == "int8-symmetric"
    with pytest.raises(UnavailableError, match="only: int8-symmetric; edgecxr export --precisions fp32 makes one"):
        choose(as_symmetric(bundle))
    with pytest.raises(UnavailableError, match=r"no int8-symmetric ONNX .* --precisions int8-symmetric makes one"):
        choose(bundle, by_name)
    monkeypatch.setattr(ort, "available_devices", lambda: ("cpu", "cuda", "tensorrt"))
    assert choose(symmetric, by_name).device == "cpu"
    chosen = choose(symmetric, replace(by_name, device="tensorrt"))
    assert (chosen.device, chosen.precision) == ("tensorrt", "int8-symmetric")
    with pytest.raises(UnavailableError, match="int8-symmetric artifacts are for TensorRT and CPUs; on cuda take fp16"):
        choose(symmetric, replace(by_name, device="cuda"))
    _, not_run = choices(symmetric, Asked(device="cuda"))
    assert any("int8-symmetric artifacts are for TensorRT and CPUs" in reason for reason in not_run)


@pytest.mark.parametrize("architecture", ["aarch64", "arm64", "ARM64"])
def test_auto_never_takes_openvino_for_integers_on_arm(
    bundle: Bundle, both: Bundle, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """It computes them in half precision there."""
    int8 = replace(bundle, artifacts=tuple(a for a in bundle.artifacts if a.precision == "int8"))
    only = ("openvino",)
    assert choose_engine(int8, ANYTHING, only) == "openvino"
    assert choose_artifact(bundle, "cpu", "auto", "openvino").precision == "int8"
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    for asked in (ANYTHING, Asked(precision="int8")):
        with pytest.raises(UnavailableError, match=r"openvino can't run this .*, onnxruntime can; .*'edgecxr\[cpu\]'"):
            choose_engine(int8, asked, only)
        assert choose_engine(int8, asked, ALL) == "onnxruntime"
    assert choose_engine(both, Asked(precision="int8"), ("openvino", "litert")) == "litert"
    # In float it is as good as any; and what is asked for by name is used.
    assert choose_engine(bundle, ANYTHING, only) == "openvino"
    assert choose_artifact(bundle, "cpu", "auto", "openvino").precision == "fp32"
    assert choose(bundle, Asked("openvino", precision="int8")).precision == "int8"
    assert select.in_software("openvino", "int8", "cpu")  # so `tune` and `bench` leave it out
    assert not select.in_software("onnxruntime", "int8", "cpu")


@pytest.mark.parametrize("name", ["engine", "device", "precision"])
def test_a_name_that_there_is_not_is_said_with_those_that_there_are(bundle: Bundle, name: str) -> None:
    with pytest.raises(UsageError, match=f"the {name} must be one of auto, .*, got npu"):
        Classifier(bundle, **{name: "npu"})  # type: ignore[arg-type]


def test_the_command_line_offers_what_the_table_holds() -> None:
    assert get_args(options.Engine) == select.ENGINES
    assert get_args(options.Device) == select.DEVICES
    assert get_args(options.Precision) == select.PRECISIONS
    assert {p for row in select.TABLE for p in row.computes} == set(select.PRECISIONS) - {"auto"}


@pytest.mark.parametrize("row", select.TABLE, ids=select.ORDER)
def test_a_row_says_what_brings_its_engine(row: select.Row) -> None:
    """As the installed package's own metadata have it: the extra brings the package, and the package the module."""
    requires = [line.split(";") for line in metadata.requires("edgecxr") or []]
    mine = [package for package, *when in requires if re.search(rf"extra == .{row.extra}.", "".join(when))]
    assert any(re.match(rf"{row.packages[0]}\b", package) for package in mine), mine
    assert set(metadata.packages_distributions()[row.module]) <= set(row.packages)
    assert set(row.code.on_cpu()) <= set(row.computes)
    assert set(row.code.available_devices()) <= set(row.devices)


def test_an_export_that_is_named_makes_what_is_missing(bundle: Bundle, both: Bundle) -> None:
    """`--formats` is onnx by default, so that another format has to be asked for."""
    for asked, precision, way in (
        (bundle, "auto", "no TFLite artifact for litert on cpu, only: none; edgecxr export --formats tflite makes"),
        (bundle, "int8", "only: none; edgecxr export --formats tflite --precisions int8 makes one"),
        (both, "fp16", "only: fp32, int8; edgecxr export --formats tflite --precisions fp16 makes one"),
    ):
        with pytest.raises(UnavailableError, match=way):
            choose(asked, Asked(engine="litert", precision=precision))
    with pytest.raises(UnavailableError, match=r"no fp16 ONNX .*only: fp32, int8; edgecxr export --precisions fp16"):
        choose(bundle, Asked(engine="onnxruntime", precision="fp16"))
    with pytest.raises(UnavailableError, match="none; edgecxr export --formats onnx makes one"):
        choose(tflite_only(bundle), Asked(engine="onnxruntime"))
    with pytest.raises(UnavailableError, match="int8 artifacts are for CPUs"):  # no export makes it run
        choose_artifact(tflite_only(bundle), "cuda", "int8")


def test_an_engine_that_is_there_is_not_to_be_installed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("model.fp32.onnx", "model.int8.onnx")
    wanted = "litert can't run it so, onnxruntime can: --engine onnxruntime"
    assert choices(bundle, Asked(engine="litert")) == ((), tuple(f"{file}: {wanted}" for file in files))
    monkeypatch.setattr(select, "installed_engines", lambda: ("openvino", "litert"))
    wanted = "litert can't run it so, openvino can: --engine openvino"
    assert choices(bundle, Asked(engine="litert"))[1] == tuple(f"{file}: {wanted}" for file in files)
    monkeypatch.setattr(select, "installed_engines", lambda: ("litert",))
    wanted = "litert can't run it so, onnxruntime can: pip install 'edgecxr[cpu]'"
    assert choices(bundle, Asked(engine="litert"))[1] == tuple(f"{file}: {wanted}" for file in files)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.parametrize("verb", [choose, choices])
def test_a_gpu_that_is_not_there_comes_with_a_hint_that_helps(
    both: Bundle, monkeypatch: pytest.MonkeyPatch, verb: Callable[..., object], device: str
) -> None:
    for engine in ("openvino", "litert"):
        with pytest.raises(UnavailableError, match=f"{engine} can use only cpu; give --engine onnxruntime"):
            verb(both, Asked(engine=engine, device=device))
    monkeypatch.setattr(ort, "available_devices", lambda: ("cpu",))
    for engine in ("auto", "onnxruntime"):
        with pytest.raises(UnavailableError, match=r"only cpu; run: pip uninstall .*pip install 'edgecxr\[gpu\]'"):
            verb(both, Asked(engine=engine, device=device))
    if device == "tensorrt":
        monkeypatch.setattr(ort, "available_devices", lambda: ("cpu", "cuda"))
        with pytest.raises(UnavailableError, match="no TensorRT provider; give --device cuda"):
            verb(both, Asked(engine="onnxruntime", device=device))


def test_a_precision_that_an_engine_lacks_is_said_with_one_that_has_it(both: Bundle) -> None:
    for engine in ("onnxruntime", "litert"):
        with pytest.raises(UnavailableError, match=r"doesn't compute in bf16 here.*give --engine openvino"):
            choose_artifact(both, "cpu", "bf16", engine)
    assert choose_artifact(both, "cpu", "bf16", "openvino").precision == "fp32"
    with pytest.raises(UnavailableError, match="no fp32 ONNX artifact"):
        int8 = replace(both, artifacts=tuple(a for a in both.artifacts if a.precision == "int8"))
        choose_artifact(int8, "cpu", "bf16", "openvino")


def test_every_artifact_meets_every_engine_of_its_format(both: Bundle) -> None:
    found, not_run = choices(both)
    assert {(c.artifact.file, c.engine, c.precision) for c in found} == {
        (f"model.{p}.{'tflite' if engine == 'litert' else 'onnx'}", engine, p)
        for engine in ALL
        for p in ("fp32", "int8")
    }
    assert not not_run


def test_what_is_not_installed_runs_nothing(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "installed_engines", lambda: ("onnxruntime",))
    found, not_run = choices(both)
    assert {c.engine for c in found} == {"onnxruntime"}
    assert [reason.split(":")[0] for reason in not_run] == ["model.fp32.tflite", "model.int8.tflite"]
    assert all("pip install 'edgecxr[litert]'" in reason for reason in not_run)


def test_all_three_are_installed_where_the_tests_run() -> None:
    assert installed_engines() == ALL


@pytest.mark.parametrize("engine", ALL)
def test_the_whole_path_gives_the_same_answers(both: Bundle, picture: Callable[..., Path], engine: str) -> None:
    path = picture()
    reference = Classifier(both, engine="onnxruntime", precision="fp32").predict(path)
    for precision, tolerance in (("fp32", 1e-4), ("int8", 0.1)):
        prediction = Classifier(both, engine=engine, precision=precision).predict(path)
        provenance = prediction.provenance
        assert (provenance.engine, provenance.precision, provenance.device) == (engine, precision, "cpu")
        np.testing.assert_allclose(list(prediction.logits.values()), list(reference.logits.values()), atol=tolerance)


@pytest.mark.parametrize("engine", ALL)
def test_workers_change_no_bit(both: Bundle, picture: Callable[..., Path], engine: str) -> None:
    paths = [picture(f"{i}.png", seed=i) for i in range(12)]
    answers = []
    for workers in (1, 4):
        session = open_session(both, Asked(engine=engine), workers=workers, threads=1)
        answers.append([tuple(p.logits.values()) for p in pipeline.stream(session, paths * 4)])
    assert answers[0] == answers[1]


@pytest.mark.skipif(not ov.has_bf16(), reason="this CPU has no bfloat16 instructions")
def test_bfloat16_stands_in_the_record(both: Bundle, picture: Callable[..., Path]) -> None:
    session = open_session(both, Asked(precision="bf16"))
    record = pipeline.score(session, [picture()])[0].to_record(both.labels)
    assert (record["engine"], record["precision"]) == ("openvino", "bf16")


def test_verify_covers_both_formats(both: Bundle) -> None:
    result = verify(both)
    assert result.passed
    assert len(result.golden) == 6
    assert {c.artifact for c in result.golden if c.engine == "litert"} == {"model.fp32.tflite", "model.int8.tflite"}
    assert len(result.notes) == 2  # OpenVINO's, which has no answers of its own in this bundle


def test_changed_bytes_reach_no_engine(both_formats: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.edgecxr"
    for file in both_formats.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(both_formats)).parent.mkdir(parents=True, exist_ok=True)
            data = bytearray(file.read_bytes())
            if file.suffix in (".onnx", ".tflite"):
                data[-1] ^= 1
            (copy / file.relative_to(both_formats)).write_bytes(data)
    for engine in ALL:
        with pytest.raises(BundleError, match="damaged or was changed"):
            Classifier(copy, engine=engine)


@pytest.mark.parametrize(("engine", "module"), zip(ALL, MODULES, strict=True))
def test_no_engine_is_imported_that_is_not_used(both_formats: Path, engine: str, module: str) -> None:
    code = (
        "import sys, edgecxr, numpy\n"
        f"classifier = edgecxr.Classifier({str(both_formats)!r}, engine={engine!r}, workers=2)\n"
        "picture = numpy.random.default_rng(0).integers(0, 255, (80, 80)).astype('uint8')\n"
        "assert classifier.predict(picture).status == 'scored'\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert loaded & set(MODULES) == {module}
    assert not loaded & {"tensorflow", "keras", "onnx", "tf2onnx", "edgecxr_export", "torch", "sklearn", "matplotlib"}


def test_auto_imports_only_what_it_chooses(tiny_bundle: Path) -> None:
    code = (
        f"import sys, edgecxr; edgecxr.Classifier({str(tiny_bundle)!r})\n"
        f"print(sorted(set({MODULES!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == ["onnxruntime"]


def without(modules: tuple[str, ...], *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line where the modules aren't installed."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({modules!r}))\n"
        "from edgecxr.cli import main\n"
        f"sys.argv = ['edgecxr', *{[str(a) for a in arguments]!r}]\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("engine", "module", "extra"),
    [
        ("onnxruntime", "onnxruntime", "cpu"),
        ("openvino", "openvino", "openvino"),
        ("litert", "ai_edge_litert", "litert"),
    ],
)
@pytest.mark.parametrize("verb", ["infer", "verify", "bench"])
def test_a_missing_engine_is_one_sentence(
    both_formats: Path, samples: Path, verb: str, engine: str, module: str, extra: str
) -> None:
    arguments = {"infer": [samples, "-m"], "verify": [], "bench": ["-m"]}[verb]
    done = without((module,), verb, *arguments, both_formats, "--engine", engine)
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"pip install 'edgecxr[{extra}]'" in done.stderr
    assert not done.stdout


def test_auto_goes_on_with_what_is_there(both_formats: Path, samples: Path) -> None:
    done = without(("onnxruntime",), "infer", samples, "-m", both_formats, "--json")
    assert json.loads(done.stdout)["engine"] == "openvino", done.stderr
    done = without(("onnxruntime", "openvino"), "infer", samples, "-m", both_formats, "--json")
    assert json.loads(done.stdout)["engine"] == "litert", done.stderr
    done = without(MODULES, "infer", samples, "-m", both_formats, "--json")
    assert done.returncode == 4
    assert "no inference engine is installed" in done.stderr


def test_the_options_reach_the_engine(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], both_formats: Path, samples: Path
) -> None:
    given = ("--engine", "litert", "--precision", "fp32", "-j", "2", "--threads", "2", "--json")
    summary = json.loads(edgecxr("infer", samples, "-m", both_formats, *given).stdout)
    wanted = {"engine": "litert", "precision": "fp32", "device": "cpu", "workers": 2, "threads": 2}
    assert {key: summary[key] for key in wanted} == wanted
    done = edgecxr("verify", both_formats, "--engine", "openvino")
    assert done.returncode == 0
    assert done.stdout.count("the bundle holds no golden vectors for it") == 2


@pytest.mark.slow
def test_bench_measures_each_artifact_on_each_engine(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], both_formats: Path
) -> None:
    report = json.loads(edgecxr("bench", "-m", both_formats, "--seconds", 1, "-b", 1, "--json", timeout=600).stdout)
    assert {(r["engine"], r["artifact"]) for r in report["results"]} == {
        (engine, f"model.{p}.{'tflite' if engine == 'litert' else 'onnx'}") for engine in ALL for p in ("fp32", "int8")
    }
    assert {"openvino", "ai-edge-litert", "onnxruntime"} <= set(report["machine"]["packages"])
    one = json.loads(
        edgecxr(
            "bench", "-m", both_formats, "--seconds", 1, "-b", 1, "--json", "--engine", "litert", timeout=600
        ).stdout
    )
    assert {r["engine"] for r in one["results"]} == {"litert"}


def test_the_policy_needs_no_engine() -> None:
    code = f"import sys, edgecxr.engines.select; assert not set({MODULES!r}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
