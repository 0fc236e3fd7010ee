"""Shared fixtures: the tiny bundle, drawn pictures, and the real ones where they are at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.pop("FORCE_COLOR", None)  # rich would take every stream for a terminal
# What `edgecxr tune` once found on this machine decides what `auto` takes; tests begin where nothing was tuned.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="edgecxr-tests-")
sys.path.insert(0, str(Path(__file__).parent))

import tiny
from common import REAL, ROOT, command_line, noisy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that fit or convert a network come first: one at the end would leave the other process with nothing."""
    first = {item.path for item in items if item.get_closest_marker("lab")}
    items.sort(key=lambda item: item.path not in first)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay in one process, with its fixtures; so do those of the export stage, which share networks."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return "tests/export" if nodeid.startswith("tests/export/") else nodeid.partition("::")[0]

    return Together(config, log)


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def samples() -> Path:
    return ROOT / "samples"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real X-rays; tests that need it say so and are skipped elsewhere."""
    if not (REAL / "fullres" / "manifest.csv").is_file():
        pytest.skip(f"no real pictures at {REAL} (set EDGECXR_DATA)")
    return REAL


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_bundle(tmp_path_factory.mktemp("bundles") / "tiny.edgecxr")


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    """Writes a seeded noisy gradient as a picture file and returns its path."""

    def write(name: str = "a.png", size: tuple[int, int] = (96, 80), seed: int = 0, **options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy(size, seed)).save(path, **options)
        return path

    return write


@pytest.fixture
def edgecxr() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line: within this process, for a start costs a second of a test's own work; in a process of its
    own where `subprocess.run` gets options."""

    def run(*arguments: object, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
        call = list(map(str, arguments))
        if not options:
            return command_line(call)
        command = [sys.executable, "-m", "edgecxr", *call]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, **options)  # type: ignore[call-overload]

    return run
