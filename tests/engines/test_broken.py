"""Engines that are installed and can't be loaded: one sentence, and in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bundle import Bundle, load
from edgecxr.device import explain
from edgecxr.device.verify import verify
from edgecxr.engines import litert, ort, ov
from edgecxr.engines.select import Asked, choices, choose
from edgecxr.errors import UnavailableError

ENGINES = {"onnxruntime": ort, "openvino": ov, "litert": litert}


@pytest.fixture(scope="module")
def both(both_formats: Path) -> Bundle:
    return load(both_formats)


def beside(folder: Path, module: str, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line where `module` runs `code` when it is imported."""
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, "-m", "edgecxr", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def sentence(name: str) -> str:
    return f"the installation of {name} is broken (a library is missing)"


def break_engines(monkeypatch: pytest.MonkeyPatch, *engines: str) -> None:
    for name in engines:

        def fails(name: str = name) -> tuple[str, ...]:
            raise UnavailableError(sentence(name))

        monkeypatch.setattr(ENGINES[name], "available_devices", fails)


@pytest.mark.parametrize(
    ("engine", "module", "code", "cause"),
    [
        ("onnxruntime", "onnxruntime", "raise RuntimeError('no such instruction')", "no such instruction"),
        ("onnxruntime", "onnxruntime", "raise OSError('libdl.so.9: cannot open')", "libdl.so.9: cannot open"),
        ("onnxruntime", "onnxruntime", "raise AttributeError('no _ARRAY_API')", "no _ARRAY_API"),
        ("onnxruntime", "onnxruntime", "raise ImportError('libc.so.9 is missing')", "libc.so.9 is missing"),
        ("onnxruntime", "onnxruntime", "import absent_of_it", "No module named 'absent_of_it'"),
        ("onnxruntime", "onnxruntime", "", "module 'onnxruntime' has no attribute 'get_available_providers'"),
        ("openvino", "openvino", "raise RuntimeError('no such instruction')", "no such instruction"),
        ("litert", "ai_edge_litert", "raise RuntimeError('no such instruction')", "no such instruction"),
        ("litert", "ai_edge_litert", "import absent_of_it", "No module named 'absent_of_it'"),
    ],
)
def test_a_broken_engine_that_was_asked_for_is_one_sentence_with_the_cause(
    both_formats: Path, samples: Path, tmp_path: Path, engine: str, module: str, code: str, cause: str
) -> None:
    done = beside(tmp_path, module, code, "infer", samples, "-m", both_formats, "--engine", engine)
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"({cause})" in done.stderr
    assert "pip uninstall -y" in done.stderr
    assert "installed and can't be loaded" in done.stderr or "installation of" in done.stderr
    assert "no inference engine is installed" not in done.stderr
    assert not done.stdout


@pytest.mark.slow
def test_a_broken_engine_stops_no_verb_that_has_another(both_formats: Path, samples: Path, tmp_path: Path) -> None:
    def said(folder: str, module: str, *arguments: object) -> dict[str, object]:
        done = beside(tmp_path / folder, module, "raise RuntimeError('worn out')", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    inferred = said("a", "onnxruntime", "infer", samples, "-m", both_formats)
    assert inferred["engine"] == "openvino"
    assert isinstance(inferred["notes"], list)
    assert len(inferred["notes"]) == 1
    assert inferred["notes"][0].startswith("openvino runs in place of another engine: onnxruntime is installed")
    tuned = said("t", "onnxruntime", "tune", samples, "-m", both_formats, "--seconds", 5)
    assert isinstance(tuned["not_run"], list)
    assert [("onnxruntime" in reason, "(worn out)" in reason) for reason in tuned["not_run"]] == [(True, True)]
    for folder, module in (("b", "openvino"), ("c", "onnxruntime")):
        broken = said(folder, module, "verify", both_formats)["not_run"]
        assert isinstance(broken, list)
        assert len(broken) == 1
        assert module in broken[0]
        assert "(worn out)" in broken[0]


def test_auto_passes_over_what_is_broken(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    break_engines(monkeypatch, "onnxruntime")
    assert (choose(both).engine, choose(both).passed_over) == ("openvino", (sentence("onnxruntime"),))
    found, not_run = choices(both)
    assert {choice.engine for choice in found} == {"openvino", "litert"}
    assert not_run == (sentence("onnxruntime"),)
    break_engines(monkeypatch, "openvino")
    assert choose(both).engine == "litert"
    found, not_run = choices(both)
    assert {choice.engine for choice in found} == {"litert"}
    assert not_run == (
        sentence("onnxruntime"),
        sentence("openvino"),
        "model.fp32.onnx: litert can't run it so, onnxruntime could, and is broken",
        "model.int8.onnx: litert can't run it so, onnxruntime could, and is broken",
    )


def test_an_engine_that_was_asked_for_is_not_passed_over(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    break_engines(monkeypatch, *ENGINES)
    for engine in ENGINES:
        for verb in (choose, choices):
            with pytest.raises(UnavailableError) as caught:
                verb(both, Asked(engine=engine))
            assert str(caught.value) == sentence(engine)


def test_where_nothing_is_left_each_is_named(both: Bundle, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_engines(monkeypatch, *ENGINES)
    for verb in (choose, choices):
        with pytest.raises(UnavailableError) as caught:
            verb(both)
        assert str(caught.value) == "; ".join(map(sentence, ENGINES))
    monkeypatch.undo()
    break_engines(monkeypatch, "onnxruntime", "openvino")  # and LiteRT runs no ONNX files
    for verb in (choose, choices):
        with pytest.raises(UnavailableError) as caught:
            verb(load(tiny_bundle))
        assert str(caught.value) == f"{sentence('onnxruntime')}; {sentence('openvino')}"


def test_a_gpu_that_only_the_broken_one_uses_is_lost_with_it(both: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    break_engines(monkeypatch, "onnxruntime")
    for verb in (choose, choices):
        for asked in ({"device": "cuda"}, {"precision": "tf32"}):
            with pytest.raises(UnavailableError) as caught:
                verb(both, Asked(**asked))
            assert str(caught.value) == sentence("onnxruntime")


def test_verify_without_an_engine_goes_on(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_engines(monkeypatch, "openvino")
    result = verify(load(tiny_bundle))
    assert result.passed
    assert {check.engine for check in result.golden} == {"onnxruntime"}
    assert result.not_run == (sentence("openvino"),)


def test_a_failed_check_is_told_without_a_library_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `diagnosis` computes in float to explain it needs ONNX Runtime, and does without."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime/__init__.py").write_text("raise RuntimeError('worn out')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    inputs = tiny.golden_inputs()
    expected = np.zeros((len(inputs), len(tiny.LABELS)), np.float32)
    assert explain.float_difference(b"", inputs, expected) is None
    with pytest.raises(UnavailableError, match=r"onnxruntime is installed and can't be loaded \(worn out\)"):
        ort.OnnxRuntimeEngine(b"", "cpu", "fp32", 1)
