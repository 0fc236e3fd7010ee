"""Does the int8 model answer on other CPUs as it does here? Asked under qemu's user emulation (Debian: qemu-user).

    python benchmarks/emulation.py [-m BUNDLE] [-o emulation.json] [--cpu Haswell …] [--pictures 8]
    benchmarks/aarch64_root.sh FOLDER; python benchmarks/emulation.py --aarch64 FOLDER

Runs the golden inputs of the bundle's int8 ONNX file through ONNX Runtime: on this machine's CPU, then in the same
Python on emulated x86-64 CPUs without AVX-512 and VNNI, whose integer kernels are others and saturate where weights
take the whole range of int8; with FOLDER, on emulated aarch64 CPUs too, in a Python of theirs. Compares logits. An
emulated picture takes many seconds; each CPU has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bundle import Artifact, Bundle, load
from edgecxr.engines.select import fingerprint
from edgecxr.errors import BundleError, UnavailableError

QEMU = "qemu-x86_64"
QEMU_AARCH64 = "qemu-aarch64"
# Names of qemu, with what of the instructions that matter here each CPU has.
# (ONNX Runtime 1.32 runs on no older one: "Nehalem", without AVX, ends in an illegal instruction.)
CPUS = {"Haswell": "AVX2 and FMA, no AVX-512 and no VNNI (2013)"}
AARCH64_CPUS = {"cortex-a72": "NEON, no dot products (2015)", "neoverse-n1": "NEON with dot products (2019)"}
LACKING = ("AVX512F", "AVX512VNNI")  # as numpy names them

SHOWN = ("AVX", "FMA", "SSE4", "NEON", "ASIMD")

# In a process of its own: argument 1 the model's file, 2 the inputs' .npy. One thread, as golden vectors are compared.
WORKER = """
import json, os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime as ort
try:
    from numpy._core._multiarray_umath import __cpu_features__ as features  # what cpuid says there
except ImportError:
    features = {}
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
logits = [session.run(["logits"], {name: image[None]})[0][0].tolist() for image in np.load(sys.argv[2])]
found = sorted(feature for feature, there in features.items() if there)
print(json.dumps({"logits": logits, "features": found, "onnxruntime": ort.__version__}))
"""


@dataclass(frozen=True)
class Answers:
    """What one CPU made of the inputs."""

    logits: npt.NDArray[np.float32]  # (G, K)
    features: tuple[str, ...]  # instruction sets that numpy found


def absence() -> str | None:
    """Why nothing can be emulated here; None where it can."""
    if platform.machine() != "x86_64":
        return f"the emulated CPUs are x86-64 and run this very Python, which is one for {platform.machine()}"
    if shutil.which(QEMU) is None:
        return f"there is no {QEMU} here; on Debian: apt-get install qemu-user"
    return None


def int8_artifact(bundle: Bundle) -> Artifact:
    """The bundle's int8 ONNX file; raises BundleError where it holds none."""
    for artifact in bundle.artifacts:
        if (artifact.format, artifact.precision) == ("onnx", "int8"):
            return artifact
    raise BundleError(f"the bundle holds no int8 ONNX artifact: {bundle.path}")


def run(model: bytes, inputs: npt.NDArray[np.uint8], cpu: str | None = None, aarch64: Path | None = None) -> Answers:
    """Logits of inputs (G, H, W, 1) on the emulated `cpu`, or on this machine's (None).

    A CPU of AARCH64_CPUS needs the folder `aarch64` that aarch64_root.sh made. Raises UnavailableError where the
    process fails.
    """
    python, environment = [sys.executable], dict(os.environ)
    if cpu in AARCH64_CPUS:
        if aarch64 is None or not (aarch64 / "root/usr/bin/python3.11").is_file():
            raise UnavailableError(f"{cpu} needs a folder that benchmarks/aarch64_root.sh made, got {aarch64}")
        root = aarch64.resolve() / "root"
        python = [QEMU_AARCH64, "-cpu", cpu, "-L", str(root), str(root / "usr/bin/python3.11")]
        environment |= {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(aarch64.resolve() / "site")}
    elif cpu is not None:
        python = [QEMU, "-cpu", cpu, *python]
    with tempfile.TemporaryDirectory(prefix="edgecxr-") as scratch:
        file, array = Path(scratch) / "model.onnx", Path(scratch) / "inputs.npy"
        file.write_bytes(model)
        np.save(array, inputs)
        done = subprocess.run(
            [*python, "-c", WORKER, str(file), str(array)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    if done.returncode != 0:
        reason = ([line for line in done.stderr.splitlines() if line.strip()] or ["no word"])[-1]
        raise UnavailableError(f"the network can't be run on {cpu or 'this CPU'}, exit {done.returncode} ({reason})")
    told = json.loads(done.stdout)
    return Answers(np.array(told["logits"], dtype=np.float32), tuple(told["features"]))


def compare(here: Answers, there: Answers) -> dict[str, Any]:
    """How far the answers of two CPUs lie apart."""
    return {
        "max_dlogit": float(np.abs(here.logits - there.logits).max()),
        "label_flips": int((here.logits.argmax(axis=1) != there.logits.argmax(axis=1)).sum()),
        "bit_equal": bool(np.array_equal(here.logits, there.logits)),
        "features": [feature for feature in there.features if feature.startswith(SHOWN)],
    }


def report(bundle: Bundle, cpus: Sequence[str], pictures: int, aarch64: Path | None = None) -> dict[str, Any]:
    """Run the bundle's first golden inputs on this CPU and on each of `cpus`."""
    artifact = int8_artifact(bundle)
    model, inputs = bundle.read(artifact.file), bundle.golden_inputs()[:pictures]
    here = run(model, inputs)
    rows: dict[str, Mapping[str, Any]] = {}
    for cpu in cpus:
        print(f"{cpu} …", file=sys.stderr, flush=True)
        what = {**CPUS, **AARCH64_CPUS}.get(cpu, "")
        rows[cpu] = {"what": what, **compare(here, run(model, inputs, cpu, aarch64))}
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return {
        "what": "golden inputs of the int8 ONNX file on emulated CPUs, against this machine's",
        "model": f"{bundle.name} {bundle.version}",
        "bundle_sha256": bundle.digest,
        "artifact_sha256": artifact.sha256,
        "pictures": len(inputs),
        "tolerance": next(e.tolerance for e in bundle.golden_expected() if e.artifact == artifact.file),
        "emulator": version,
        "here": [feature for feature in here.features if feature.startswith(SHOWN)],
        "emulated": rows,
        "environment": fingerprint(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--cpu", action="append", help="a CPU that qemu knows (default: all that this file names)")
    parser.add_argument("--aarch64", type=Path, metavar="FOLDER", help="what aarch64_root.sh made")
    parser.add_argument("--pictures", type=int, default=8)
    arguments = parser.parse_args()
    reason = absence()
    if reason is not None:
        parser.exit(4, f"{reason}\n")
    cpus = arguments.cpu or [*CPUS, *(AARCH64_CPUS if arguments.aarch64 else ())]
    text = json.dumps(report(load(arguments.model), cpus, arguments.pictures, arguments.aarch64), indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
