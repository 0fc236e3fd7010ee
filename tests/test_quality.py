"""ruff and mypy are clean, and the program's own texts name no machine."""

import re
import subprocess
import sys

import pytest

from common import ROOT


@pytest.mark.parametrize(
    "command",
    [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)],
    ids=["lint", "format", "types"],
)
def test_checker_is_clean(command: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_a_path_of_one_machine() -> None:
    for path in [
        *ROOT.glob("*.*"),
        *(p for top in ("edgecxr", "export", "benchmarks", "docs") for p in (ROOT / top).rglob("*")),
    ]:
        if path.is_file() and path.suffix in (".py", ".md", ".json", ".toml", ".txt"):
            assert not re.search(r"(?<![\w.])/(home|root|work|Users)/\w", path.read_text()), path
