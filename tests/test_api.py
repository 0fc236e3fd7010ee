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


# A folder imports only from those before it, from itself, and from `errors`; those of one rank don't know each other.
ORDER = (
    {"system", "views"},
    {"pictures"},
    {"bundle", "records"},
    {"engines"},
    {"scoring"},
    {"device"},
    {"classifier"},
    {"clinic"},
    {"bench", "lab"},
    {"dossier"},
    {"edgecxr_export", "cli"},
)
RANK = {folder: rank for rank, folders in enumerate(ORDER) for folder in folders}
RUNTIME = {
    path: path.relative_to(ROOT / "edgecxr").parts[0].removesuffix(".py") for path in (ROOT / "edgecxr").rglob("*.py")
}
SOURCES = {
    **{path: folder for path, folder in RUNTIME.items() if folder in RANK},
    **dict.fromkeys((ROOT / "export" / "edgecxr_export").rglob("*.py"), "edgecxr_export"),
}


def imported(tree: ast.AST) -> set[str]:
    """The module of every import within `tree`, those inside functions and of `import_module("…")` too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "load_lab"):
                names.add(str(node.args[0].value))
    return names


def folder_of(name: str) -> str:
    """The folder of ours that a module's name lies in, "" for the packages of others."""
    package, _, rest = name.partition(".")
    return package if package == "edgecxr_export" else rest.partition(".")[0] if package == "edgecxr" else ""


def test_the_order_of_the_folders_is_complete() -> None:
    free = {
        "__init__",
        "__main__",
        "errors",
    }  # the front door, which knows all, and the tree of errors, which knows none
    assert set(RUNTIME.values()) - free == set(RANK) - {"edgecxr_export"}
    assert not imported(ast.parse((ROOT / "edgecxr" / "errors.py").read_text())) - {"__future__.annotations"}


@pytest.mark.parametrize("path", sorted(SOURCES), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_imports_only_from_those_before_it(path: Path) -> None:
    own = SOURCES[path]
    for name in imported(ast.parse(path.read_text())):
        folder = folder_of(name)
        if folder not in (own, "", "errors", "__version__"):
            # The command line is the only one that knows the export stage.
            before = RANK[folder] < RANK[own] or (own, folder) == ("cli", "edgecxr_export")
            assert before, f"{own} imports {name}"
        if name.partition(".")[0] in LAB:
            assert own == "edgecxr_export" or path.is_relative_to(ROOT / "edgecxr" / "lab" / "train"), name


def test_the_order_is_seen_in_functions_and_in_names_of_modules() -> None:
    code = "def f():\n from edgecxr.lab import run\n import_module('edgecxr.lab.train.fit')\n x.load_lab('a.b', 'c')"
    assert imported(ast.parse(code)) == {"edgecxr.lab.run", "edgecxr.lab.train.fit", "a.b"}


@pytest.mark.parametrize(
    "path", [p for p, folder in RUNTIME.items() if folder in ("system", "cli")], ids=lambda p: p.stem
)
def test_help_and_the_system_load_little(path: Path) -> None:
    """At module level: the standard library, typer, ours of these two; rich in what verbs load when they print."""
    tree = ast.parse(path.read_text())
    top = ast.Module([node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))], [])
    allowed = {"system", "errors"} | ({"cli", "__version__"} if RUNTIME[path] == "cli" else set())
    for name in imported(top):
        package = name.partition(".")[0]
        if package == "edgecxr":
            printing = path.name == "tables.py" and folder_of(name) == "views"
            assert folder_of(name) in (*allowed, "") or printing, name
        else:
            third_party = {"typer", "rich"} if RUNTIME[path] == "cli" else set()
            assert package in {*sys.stdlib_module_names, *third_party}, name


def test_packages_hold_names_and_a_tour_only() -> None:
    for path, folder in RUNTIME.items():
        if path.name == "__init__.py" and folder not in ("__init__", "engines"):
            kinds = {type(node) for node in ast.parse(path.read_text()).body}
            assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}, path


def test_no_module_of_the_lab_is_loaded_by_real_work(tiny_bundle: Path) -> None:
    code = (
        "import sys, edgecxr\n"
        f"classifier = edgecxr.Classifier({str(tiny_bundle)!r})\n"
        "import numpy; picture = numpy.random.default_rng(0).integers(0, 255, (80, 80)).astype('uint8')\n"
        "assert classifier.predict(picture).status == 'scored'\n"
        "from edgecxr import bench, cli\n"
        "from edgecxr.device import doctor, verify\n"
        "from edgecxr.views import terminal\n"
        "verify.verify(classifier.bundle); doctor.look()\n"
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
