"""doctor: engines with their versions, what is wrong with them, and the repair."""

import importlib.metadata
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgecxr.bundle import load
from edgecxr.device import doctor
from edgecxr.engines import litert, ov, select
from edgecxr.errors import UnavailableError
from edgecxr.scoring import remembered


def said(level: str) -> list[doctor.Finding]:
    return [finding for finding in doctor.look().findings if finding.level == level]


def test_each_engine_stands_with_its_version() -> None:
    lines = [finding.what for finding in said("ok")]
    for engine, package in (("onnxruntime", "onnxruntime"), ("openvino", "openvino"), ("litert", "ai-edge-litert")):
        version = importlib.metadata.version(package)
        assert any(line.startswith(f"{engine} {version}, devices: cpu") for line in lines), lines


def test_bfloat16_is_named_only_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for there in (True, False):
        monkeypatch.setattr(ov, "has_bf16", lambda there=there: there)
        line = next(f.what for f in said("ok") if f.what.startswith("openvino"))
        assert ("bf16" in line) is there


@pytest.mark.parametrize(
    ("module", "name", "package"), [(ov, "openvino", "openvino"), (litert, "litert", "ai-edge-litert")]
)
def test_a_broken_engine_is_a_problem_with_a_repair(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, package: str
) -> None:
    def fails() -> tuple[str, ...]:
        raise UnavailableError(f"the installation of {package} is broken")

    monkeypatch.setattr(module, "available_devices", fails)
    problems = said("problem")
    assert [problem.what for problem in problems] == [f"the installation of {package} is broken"]
    assert problems[0].repair == f"pip uninstall -y {package} && pip install 'edgecxr[{name}]'"


def test_a_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> object:
        raise ImportError("libopenvino.so.2641: cannot open shared object file")

    monkeypatch.setattr(ov, "_import", fails)
    with pytest.raises(UnavailableError, match=r"broken \(libopenvino.so.2641: cannot open.*pip install"):
        ov.available_devices()


def test_engines_that_are_not_installed_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "installed_engines", lambda: ("onnxruntime",))
    note = next(finding for finding in said("note") if "engines that aren't installed" in finding.what)
    assert "openvino, litert" in note.what
    assert note.repair == "pip install 'edgecxr[openvino,litert]'"
    assert doctor.look().healthy


def test_another_engine_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "installed_engines", lambda: ("openvino",))
    monkeypatch.setattr(doctor, "_onnxruntimes", lambda: ())
    assert doctor.look().healthy


def test_an_engine_that_cannot_run_the_embedded_bundle_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "installed_engines", lambda: ("litert",))
    monkeypatch.setattr(doctor, "_onnxruntimes", lambda: ())
    problem = said("problem")[0]
    assert "litert can't run this bundle, onnxruntime can; run: pip install 'edgecxr[cpu]'" in problem.what


def test_what_was_tuned_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not any("tuned" in finding.what for finding in doctor.look().findings)
    winner = remembered.Configuration("model.int8.onnx", "openvino", "cpu", "int8", 2, 1, 4)
    path = remembered.remember(load(), winner, {})
    lines = [finding.what for finding in said("ok")]
    assert (
        f"tuned here for {load().name} {load().version}: openvino int8 on cpu, 2 workers of 1 threads, batches of 4"
        in lines
    ), lines
    path.write_text("damaged")
    assert any("passed over" in f.what and "--forget" in f.repair for f in said("note"))


def test_no_engine_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "installed_engines", lambda: ())
    monkeypatch.setattr(doctor, "_onnxruntimes", lambda: ())
    problems = said("problem")
    assert len(problems) == 1
    assert "no inference engine is installed" in problems[0].what


def test_it_is_printed(edgecxr: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = edgecxr("doctor")
    assert done.returncode == 0, done.stdout
    assert "openvino" in done.stdout
    assert "litert" in done.stdout
