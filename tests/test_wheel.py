"""What is shipped: the wheel's contents, and that it works in an empty environment."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from common import REAL, ROOT
from edgecxr.bundle import NAMED

LAB = ("tensorflow", "keras", "onnx", "tf2onnx")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(target.glob("*.whl"))


def test_top_level_names_are_the_two_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgecxr", "edgecxr_export"}
    assert len(tops) == 3
    assert any(name.endswith("licenses/LICENSE-weights") for name in names)
    assert {"edgecxr/py.typed", "edgecxr_export/py.typed"} <= set(names)
    models = {name.split("/")[2] for name in names if name.startswith("edgecxr/models/") and name.endswith(".onnx")}
    assert models == {path.name for path in NAMED.values()}
    assert "edgecxr/dossier/SECURITY.md" in names  # the table of hazards
    assert not any("test" in name.split("/")[0] for name in names)
    assert wheel.stat().st_size < 45e6  # two models: 22 MB and 12


@pytest.mark.slow
def test_the_wheel_scores_in_an_empty_environment_without_the_lab(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", f"{wheel}[cpu]"]
    subprocess.run(list(map(str, install)), check=True, cwd=tmp_path)
    real = REAL / "fullres"
    pictures, count = (real, 150) if real.is_dir() else (ROOT / "samples", len(list((ROOT / "samples").iterdir())))
    code = (
        "import sys\n"
        "from edgecxr.cli import app\n"
        f"app(['infer', {str(pictures)!r}, '-o', 'out.jsonl', '--json'], standalone_mode=False)\n"
        "app(['verify'], standalone_mode=False)\n"
        f"assert not set({LAB!r}) & set(sys.modules), 'the lab was loaded'\n"
    )
    done = subprocess.run([str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert len(lines) == count
    assert {json.loads(line)["status"] for line in lines} <= {"scored", "abstained"}
    listed = subprocess.run([str(python), "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(line.split()[0] in LAB for line in listed.splitlines() if line.strip())
