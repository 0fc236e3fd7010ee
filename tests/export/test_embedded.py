"""What is embedded comes from the RUNs that the repository keeps."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from common import REAL, ROOT
from edgecxr.bundle import load
from edgecxr.bundle.reader import NAMED
from edgecxr.device.golden import reference
from edgecxr.engines.select import Asked, choose, open_engine

sys.path.insert(0, str(ROOT / "benchmarks"))


@pytest.mark.long
@pytest.mark.lab
@pytest.mark.parametrize("name", [name for name, path in NAMED.items() if path.is_dir()])
def test_an_embedded_model_is_exported_anew_from_what_is_kept(name: str, tmp_path: Path) -> None:
    """Not to the byte: float sums differ between CPUs, and with them the last bit of a scale here and there."""
    if not (REAL / "sources" / "manifest.csv").is_file():
        pytest.skip(f"no films at {REAL} (set EDGECXR_DATA)")
    importlib.import_module("embedded").export(name, REAL, tmp_path / "again.edgecxr")
    before, again = load(Path(name)), load(tmp_path / "again.edgecxr")
    assert [artifact.file for artifact in again.artifacts] == [artifact.file for artifact in before.artifacts]
    assert again.temperature == pytest.approx(before.temperature, rel=0.02)
    for artifact in before.artifacts:
        asked = Asked("onnxruntime", "cpu", artifact.precision)
        expected, tolerance, _ = reference(before, choose(before, asked))
        found = open_engine(again, choose(again, asked), threads=2).run(before.golden_inputs())
        assert np.abs(found.logits - expected.logits).max() <= tolerance
