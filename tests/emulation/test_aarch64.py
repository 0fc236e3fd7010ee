"""The whole runtime under an emulated aarch64: verify, infer, the C example, and what instructions a picture takes.

EDGECXR_AARCH64 is a folder that benchmarks/aarch64_root.sh made; C needs Debian's gcc-aarch64-linux-gnu besides.
EDGECXR_WHOLE_BUNDLE may name a bundle with files in every format and precision, which is then verified as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common import ROOT
from edgecxr import Classifier
from edgecxr.bundle import Bundle, load
from edgecxr.device.golden import WIDER_TOLERANCES
from engines.conftest import both_formats, tflite

sys.path.insert(0, str(ROOT))

from benchmarks import emulation

# What is emulated takes minutes; the tiny TFLite files want TensorFlow.
pytestmark = [pytest.mark.long, pytest.mark.lab]

__all__ = ["both_formats", "tflite"]  # fixtures
CPU = "neoverse-n1"  # with dot products: a third of cortex-a72's time
GCC = "aarch64-linux-gnu-gcc"
SAMPLE = ROOT / "samples" / "phantom-1.png"

# Each kind of instruction a known number of times, in loops that no compiler takes away.
LOOPS = """
#include <arm_neon.h>
#define KEEP(x) __asm__ volatile("" : "+w"(x))
int main(void) {
    int8x16_t x = vdupq_n_s8(1);
    int32x4_t dot = vdupq_n_s32(0), matrix = dot;
    int16x8_t wide = vdupq_n_s16(0);
    float32x4_t f = vdupq_n_f32(1);
    for (int i = 0; i < 1000; i++) { dot = vdotq_s32(dot, x, x); KEEP(dot); }
    for (int i = 0; i < 300; i++) { matrix = vmmlaq_s32(matrix, x, x); KEEP(matrix); }
    for (int i = 0; i < 500; i++) { wide = vmlal_s8(wide, vget_low_s8(x), vget_low_s8(x)); KEEP(wide); }
    for (int i = 0; i < 700; i++) { f = vfmaq_f32(f, f, f); KEEP(f); }
    return 0;
}
"""


@pytest.fixture(scope="module")
def folder() -> Path:
    named = os.environ.get("EDGECXR_AARCH64")
    if named is None or shutil.which(emulation.QEMU_AARCH64) is None:
        pytest.skip("no EDGECXR_AARCH64 (a folder made by benchmarks/aarch64_root.sh), or no qemu-aarch64")
    return Path(named)


@pytest.fixture(scope="module")
def gcc() -> str:
    if shutil.which(GCC) is None:
        pytest.skip(f"no {GCC} here; on Debian: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    return GCC


def edgecxr(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    python, environment = emulation.interpreter(CPU, folder)
    call = [*python, "-m", "edgecxr", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False, env=environment)


def verified(folder: Path, bundle: Bundle, engine: str) -> list[dict[str, object]]:
    done = edgecxr(folder, "verify", bundle.path, "--engine", engine, "--json")
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    report = json.loads(done.stdout)
    assert report["passed"]
    checks: list[dict[str, object]] = report["golden"]
    assert {check["engine"] for check in checks} == {engine}
    assert all(check["label_flips"] == 0 for check in checks)
    return checks


def test_it_is_an_aarch64_python_that_runs(folder: Path) -> None:
    python, environment = emulation.interpreter(CPU, folder)
    code = "import platform, edgecxr.system.machine as m; print(platform.machine(), m.is_arm())"
    done = subprocess.run([*python, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "aarch64 True\n"


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_verify_passes_in_both_formats(folder: Path, both_formats: Path, engine: str) -> None:
    kind = "tflite" if engine == "litert" else "onnx"
    checks = verified(folder, load(both_formats), engine)
    assert {check["artifact"] for check in checks} == {f"model.{precision}.{kind}" for precision in ("fp32", "int8")}


def test_verify_passes_on_the_embedded_bundle(folder: Path) -> None:
    bundle = load()
    checks = verified(folder, bundle, "onnxruntime")
    assert {check["artifact"] for check in checks} == {a.file for a in bundle.artifacts if a.format == "onnx"}


@pytest.mark.parametrize("engine", ["onnxruntime", "litert"])
def test_verify_passes_on_a_bundle_of_everything(folder: Path, engine: str) -> None:
    named = os.environ.get("EDGECXR_WHOLE_BUNDLE")
    if named is None:
        pytest.skip("no EDGECXR_WHOLE_BUNDLE (edgecxr export --formats onnx,tflite --precisions fp32,int8)")
    checks = verified(folder, load(Path(named)), engine)
    assert {check["precision"] for check in checks} >= {"fp32", "int8"}


def test_infer_gives_the_records_of_another_machine(folder: Path) -> None:
    """The same status and label, and logits within the tolerance of the golden ones."""
    done = edgecxr(folder, "infer", SAMPLE, "-o", "-", "--engine", "onnxruntime", "--quiet")
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(done.stdout)
    bundle = load()
    here = Classifier(bundle, engine="onnxruntime").predict(SAMPLE)
    assert (record["status"], record["label"]) == (here.status, here.label)
    logits = [record[f"logit_{label}"] for label in bundle.labels]
    tolerance = min(row.tolerance for row in bundle.golden_expected() if row.engine == "onnxruntime")
    assert np.abs(np.array(logits) - [here.logits[label] for label in bundle.labels]).max() <= tolerance


def test_the_c_example_prints_the_golden_logits(folder: Path, gcc: str, tmp_path: Path) -> None:
    """OpenVINO computes integers in floats there: as another engine's answers, at the wider tolerance.

    One picture: emulated, it takes two minutes.
    """
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import everywhere

    openvino = folder.resolve() / "site/openvino"
    settings = [f"CC={gcc}", f"OPENVINO={openvino}", "LDFLAGS=-Wl,--allow-shlib-undefined"]
    program = [*emulation.program(CPU, folder), str(everywhere.build(tmp_path, settings))]
    bundle = load()
    for artifact in everywhere.taken_in_c(bundle):
        found = everywhere.run_in_c(program, bundle, artifact, tmp_path, limit=1)
        row, tolerance, _ = everywhere.reference(
            bundle, everywhere.Choice(artifact, "openvino", "cpu", artifact.precision)
        )
        assert np.abs(found - row.logits[:1]).max() <= max(tolerance, WIDER_TOLERANCES[artifact.precision])


def test_the_plugin_counts_what_was_written(folder: Path, gcc: str, tmp_path: Path) -> None:
    (tmp_path / "loops.c").write_text(LOOPS)
    made, told = tmp_path / "loops", tmp_path / "counts.json"
    subprocess.run([gcc, "-O1", "-march=armv8.6-a+i8mm", tmp_path / "loops.c", "-o", made], check=True)
    plugin = ["-plugin", f"{emulation.plugin(tmp_path)},out={told}"]
    subprocess.run([*emulation.program("max,sve=off,sme=off", folder, plugin), made], check=True)
    counts = json.loads(told.read_text())
    kinds = ("dot_product", "i8mm", "widening_multiply", "float_multiply_add")
    assert [counts[kind] for kind in kinds] == [1000, 300, 500, 700]
    assert counts["all"] > counts["simd"] > 2500


def test_dot_products_are_used_where_the_cpu_has_them(folder: Path) -> None:
    bundle = load()
    model, picture = bundle.read(emulation.int8_artifact(bundle).file), bundle.golden_inputs()[:1]
    without, with_dots = (emulation.instructions(model, picture, cpu, folder) for cpu in ("cortex-a72", CPU))
    assert without["dot_product"] == without["i8mm"] == with_dots["i8mm"] == 0
    assert with_dots["dot_product"] > 10**6
    assert with_dots["all"] < without["all"]
