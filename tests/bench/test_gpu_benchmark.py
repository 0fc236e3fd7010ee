"""benchmarks/gpu.py, run where there is no GPU: it counts rightly, and says what it can't do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common import ROOT
from edgecxr.bundle import load
from edgecxr.engines import ort

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu

import tiny


def test_operations_are_those_counted_by_hand() -> None:
    # The one Conv has 1 x 1 kernels from 1 channel to 3 at 4 x 4 places: 48 multiplications.
    assert gpu.operations(tiny.tiny_model()) == 2 * 48


def test_operations_of_an_embedded_network() -> None:
    bundle = load(Path("full"))  # all of Xception's blocks
    # timm's table of models gives Xception at 299 px 8.40 billion multiplications; one channel goes in here, not three,
    # and maps of a smaller input have a little less than its share of places, since strides round them.
    expected = 8.4 * (bundle.preprocessing.width / 299) ** 2
    assert gpu.operations(bundle.read(bundle.artifacts[0].file)) / 2e9 == pytest.approx(expected, rel=0.05)


def test_peaks_are_found_by_the_cards_name() -> None:
    assert gpu.peak("NVIDIA H100 80GB HBM3", "fp16") == 989.4
    assert gpu.peak("NVIDIA H100 PCIe", "tf32") == 378.0
    assert gpu.peak("Tesla T4", "tf32") is None
    assert gpu.peak("another card", "fp16") is None


def test_every_device_has_its_precisions() -> None:
    assert set(gpu.MEASURED) == set(ort.PROVIDERS)
    assert {p for precisions in gpu.MEASURED.values() for p in precisions} <= set(ort.PRECISIONS)
    assert [d for d, precisions in gpu.MEASURED.items() if "int8-symmetric" in precisions] == ["tensorrt"]


@pytest.mark.slow
def test_it_runs_on_a_cpu(tmp_path: Path, tiny_bundle: Path, samples: Path) -> None:
    output = tmp_path / "results.json"
    options = ["--device", "cpu", "--batch-sizes", "1,3", "--seconds", "0.02", "--least", "10", "-o", str(output)]
    assert gpu.main([str(samples), "-m", str(tiny_bundle), *options]) == 0
    report = json.loads(output.read_text())
    rows = {(row["precision"], row["batch_size"]): row for row in report["model"]}
    assert set(rows) == {(precision, size) for precision in ("fp32", "int8") for size in (1, 3)}
    for row in rows.values():
        assert row["slowest"] <= row["pictures_per_second"] <= row["fastest"]
        assert row["tera_operations_per_second"] == pytest.approx(row["pictures_per_second"] * 96 / 1e12)
        assert row["share_of_peak"] is None
    whole = report["end_to_end"]["int8"]
    assert whole["share_of_the_smaller"] == pytest.approx(whole["end_to_end"] / min(whole["decode"], whole["model"]))
    assert (report["card"], report["device"]) == (None, "cpu")


def test_without_a_gpu_it_ends_in_a_sentence(tiny_bundle: Path, samples: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), str(samples), "-m", str(tiny_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode == 0:
        pytest.skip("a GPU is at hand")
    assert done.returncode == 4
    assert done.stderr.startswith("gpu.py: nothing can be measured: the device cuda was asked for")
    assert len(done.stderr.splitlines()) == 1
