"""What is fuzzed holds on the corpus and on mutants of it; the fuzzers are `fuzz_images.py` and its like."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fuzz import targets

MUTANTS = 30  # of each file

FILES = sorted(path for path in targets.CORPUS.rglob("*") if path.is_file())


def test_the_corpus_is_small() -> None:
    assert len(FILES) >= 20
    assert sum(path.stat().st_size for path in FILES) < 200_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_but_named_errors_comes_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.images, "MAX_PIXELS", targets.MAX_PIXELS)
    target, whole = targets.TARGETS[path.parent.name], path.read_bytes()
    target(whole)
    rng = np.random.default_rng(len(whole))
    for _ in range(MUTANTS):
        mutant = bytearray(whole)
        for position in rng.integers(len(whole), size=int(rng.integers(1, 6))):
            mutant[position] = int(rng.integers(256))
        target(bytes(mutant[: int(rng.integers(1, 2 * len(whole)))]))


@pytest.mark.long
@pytest.mark.parametrize("script", ["fuzz_images.py", "fuzz_dicom.py", "fuzz_bundle.py"])
def test_a_minute_of_coverage_guided_fuzzing(tmp_path: Path, script: str) -> None:
    pytest.importorskip("atheris")
    command = [sys.executable, Path(__file__).parent / script, tmp_path, "-max_total_time=60", "-print_final_stats=1"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stat::number_of_executed_units" in done.stderr
