"""The embedded int8 model on CPUs whose integer kernels are others, under qemu's user emulation."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from common import ROOT
from edgecxr.bundle import load

sys.path.insert(0, str(ROOT))

from benchmarks import emulation

pytestmark = pytest.mark.long  # minutes: an emulated picture takes seconds


@pytest.fixture(scope="module")
def native() -> emulation.Answers:
    reason = emulation.absence()
    if reason is not None:
        pytest.skip(reason)
    bundle = load()
    return emulation.run(bundle.read(emulation.int8_artifact(bundle).file), bundle.golden_inputs())


@pytest.mark.parametrize("cpu", list(emulation.CPUS))
def test_another_cpu_gives_the_same_answers(native: emulation.Answers, cpu: str) -> None:
    bundle = load()
    artifact = emulation.int8_artifact(bundle).file
    there = emulation.run(bundle.read(artifact), bundle.golden_inputs(), cpu)
    # Else it is this machine's own CPU that ran.
    assert not set(emulation.LACKING) & set(there.features)
    assert ("AVX2" in there.features) == (cpu == "Haswell")
    (row,) = (r for r in bundle.golden_expected() if (r.artifact, r.engine) == (artifact, "onnxruntime"))
    assert np.abs(there.logits - native.logits).max() <= row.tolerance
    assert np.abs(there.logits - row.logits).max() <= row.tolerance
    assert np.array_equal(there.logits.argmax(axis=1), native.logits.argmax(axis=1))


@pytest.mark.parametrize("cpu", list(emulation.AARCH64_CPUS))
def test_aarch64_gives_the_same_answers(native: emulation.Answers, cpu: str) -> None:
    folder = os.environ.get("EDGECXR_AARCH64")
    if folder is None or shutil.which(emulation.QEMU_AARCH64) is None:
        pytest.skip("no EDGECXR_AARCH64 (a folder made by benchmarks/aarch64_root.sh), or no qemu-aarch64")
    bundle = load()
    artifact = emulation.int8_artifact(bundle).file
    there = emulation.run(bundle.read(artifact), bundle.golden_inputs(), cpu, Path(folder))
    assert "NEON" in there.features
    (row,) = (r for r in bundle.golden_expected() if (r.artifact, r.engine) == (artifact, "onnxruntime"))
    assert np.abs(there.logits - native.logits).max() <= row.tolerance
    assert np.array_equal(there.logits.argmax(axis=1), native.logits.argmax(axis=1))
