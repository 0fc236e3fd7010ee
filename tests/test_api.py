"""The public surface, and what the runtime never imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgecxr
from common import ROOT

LAB = {"tensorflow", "keras", "onnx", "tf2onnx"}


def test_all_is_sorted_and_complete() -> None:
    assert edgecxr.__all__ == sorted(edgecxr.__all__)
    assert edgecxr.__all__ == ["Bundle", "Classifier", "Prediction", "errors", "load"]
    for name in edgecxr.__all__:
        assert getattr(edgecxr, name) is not None
        assert name in dir(edgecxr)
    with pytest.raises(AttributeError):
        _ = edgecxr.absent  # type: ignore[attr-defined]


def imported(path: Path) -> set[str]:
    """Top-level names of every module that a file imports anywhere, from its syntax."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_dependencies_point_one_way() -> None:
    for path in (ROOT / "edgecxr").rglob("*.py"):
        if "train" in path.relative_to(ROOT / "edgecxr").parts:
            continue
        for name in imported(path):
            assert name.split(".")[0] not in LAB | {"edgecxr_export", "tests", "benchmarks"}, path
            assert not name.startswith("edgecxr.train"), path


def test_leaves_import_only_leaves() -> None:
    leaves = {"errors": set(), "postprocess": set(), "machine": set(), "preprocess": {"errors"}}
    for module, allowed in leaves.items():
        ours = {n.split(".")[1] for n in imported(ROOT / "edgecxr" / f"{module}.py") if n.startswith("edgecxr.")}
        assert ours <= allowed, module


def test_no_module_of_the_lab_is_loaded_by_real_work(tiny_bundle: Path) -> None:
    code = (
        "import sys, edgecxr\n"
        f"classifier = edgecxr.Classifier({str(tiny_bundle)!r})\n"
        "import numpy; picture = numpy.random.default_rng(0).integers(0, 255, (80, 80)).astype('uint8')\n"
        "assert classifier.predict(picture).status == 'scored'\n"
        "from edgecxr import bench, verify, doctor, terminal, cli, cli_eval\n"
        "verify.verify(classifier.bundle); doctor.diagnose()\n"
        "print(sorted(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert "onnxruntime" in loaded
    extras = {"edgecxr_export", "matplotlib", "sklearn", "jinja2", "cv2", "kagglehub"}
    assert not {name.split(".")[0] for name in loaded} & (LAB | extras)


def test_help_needs_neither_numpy_nor_an_engine() -> None:
    code = "import sys, edgecxr.cli; print({'numpy', 'PIL', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
