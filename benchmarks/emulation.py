"""Does the int8 model answer on other CPUs as it does here? Asked under qemu's user emulation (Debian: qemu-user).

    python benchmarks/emulation.py [-m BUNDLE] [-o emulation.json] [--cpu Haswell …] [--pictures 8]
    benchmarks/aarch64_root.sh FOLDER; python benchmarks/emulation.py --aarch64 FOLDER
    python benchmarks/emulation.py --aarch64 FOLDER --count [-o instructions.json]

Runs the golden inputs of the bundle's int8 ONNX file through ONNX Runtime: on this machine's CPU, then in the same
Python on emulated x86-64 CPUs without AVX-512 and VNNI, whose integer kernels are others and saturate where weights
take the whole range of int8; with FOLDER, on emulated aarch64 CPUs too, in a Python of theirs. Compares logits. An
emulated picture takes many seconds; each CPU has a process of its own.

`--count` counts instructions in place of that: what one picture takes of each ONNX file on aarch64 CPUs with and
without dot products and i8mm, by a plugin of qemu (count_instructions.c, compiled with cc). It is the difference of two
pictures and one, so that neither Python's start nor the session's is in it. A count is no time.
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
# As those, and with i8mm, which no CPU that qemu 7.2 names has: all that it emulates but for the scalable vectors.
COUNTED = {**AARCH64_CPUS, "max,sve=off,sme=off": "NEON with dot products and i8mm"}
PLUGIN = Path(__file__).with_name("count_instructions.c")
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


def program(cpu: str, aarch64: Path | None, options: Sequence[str] = ()) -> list[str]:
    """What runs a program of aarch64 on the emulated `cpu`, with those `options` of qemu.

    Raises UnavailableError where `aarch64` isn't a folder that aarch64_root.sh made.
    """
    if aarch64 is None or not (aarch64 / "root/usr/bin/python3.11").is_file():
        raise UnavailableError(f"{cpu} needs a folder that benchmarks/aarch64_root.sh made, got {aarch64}")
    return [QEMU_AARCH64, "-cpu", cpu, "-L", str(aarch64.resolve() / "root"), *options]


def interpreter(cpu: str, aarch64: Path | None, options: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """The aarch64 Python on the emulated `cpu`, and the environment that it needs; it finds this checkout's edgecxr.

    Raises UnavailableError as `program` does.
    """
    emulated = program(cpu, aarch64, options)
    assert aarch64 is not None
    folder = aarch64.resolve()
    paths = [str(folder / "site"), str(Path(__file__).resolve().parents[1])]
    found = {
        "PYTHONHOME": str(folder / "root/usr"),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return [*emulated, str(folder / "root/usr/bin/python3.11")], {**os.environ, **found}


def run(
    model: bytes,
    inputs: npt.NDArray[np.uint8],
    cpu: str | None = None,
    aarch64: Path | None = None,
    options: Sequence[str] = (),
) -> Answers:
    """Logits of inputs (G, H, W, 1) on the emulated `cpu`, or on this machine's (None).

    A CPU of COUNTED needs the folder `aarch64` that aarch64_root.sh made, and takes `options` of qemu. Raises
    UnavailableError where the process fails.
    """
    python, environment = [sys.executable], dict(os.environ)
    if cpu in COUNTED:
        python, environment = interpreter(cpu, aarch64, options)
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


def plugin(folder: Path) -> Path:
    """The plugin that counts instructions, compiled into `folder`; raises UnavailableError where it can't be."""
    made = folder / "count_instructions.so"
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O2", str(PLUGIN), "-o", str(made)], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError(f"{PLUGIN.name} can't be compiled with cc ({type(error).__name__})") from None
    return made


def instructions(model: bytes, picture: npt.NDArray[np.uint8], cpu: str, aarch64: Path | None) -> dict[str, int]:
    """What one picture (1, H, W, 1) takes of each kind of instruction on the emulated `cpu`."""
    counts = []
    with tempfile.TemporaryDirectory(prefix="edgecxr-") as scratch:
        library, told = plugin(Path(scratch)), Path(scratch) / "counts.json"
        for pictures in (1, 2):
            inputs = np.repeat(picture, pictures, axis=0)
            run(model, inputs, cpu, aarch64, ["-plugin", f"{library},out={told}"])
            counts.append(json.loads(told.read_text()))
    return {kind: counts[1][kind] - counts[0][kind] for kind in counts[0]}


def counted(bundle: Bundle, cpus: Sequence[str], aarch64: Path | None) -> dict[str, Any]:
    """Instructions of one golden picture for each integer or fp32 ONNX file, on each of `cpus`."""
    rows = []
    for artifact in (a for a in bundle.artifacts if a.format == "onnx" and a.precision != "fp16"):
        for cpu in cpus:
            print(f"{artifact.file} on {cpu} …", file=sys.stderr, flush=True)
            found = instructions(bundle.read(artifact.file), bundle.golden_inputs()[:1], cpu, aarch64)
            rows.append({"artifact": artifact.file, "cpu": cpu, "what": COUNTED.get(cpu, ""), "instructions": found})
    return {
        "what": "instructions that one picture takes, counted under emulation; no times",
        "model": f"{bundle.name} {bundle.version}",
        "bundle_sha256": bundle.digest,
        "input": list(bundle.golden_inputs().shape[1:]),
        "emulator": emulator(QEMU_AARCH64),
        "rows": rows,
        "environment": fingerprint(),
    }


def emulator(program: str) -> str:
    """The version that it says."""
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


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
    return {
        "what": "golden inputs of the int8 ONNX file on emulated CPUs, against this machine's",
        "model": f"{bundle.name} {bundle.version}",
        "bundle_sha256": bundle.digest,
        "artifact_sha256": artifact.sha256,
        "pictures": len(inputs),
        "tolerance": next(e.tolerance for e in bundle.golden_expected() if e.artifact == artifact.file),
        "emulator": emulator(QEMU),
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
    parser.add_argument("--count", action="store_true", help="count instructions, on the CPUs of --aarch64")
    arguments = parser.parse_args()
    reason = absence()
    if reason is not None:
        parser.exit(4, f"{reason}\n")
    bundle, folder = load(arguments.model), arguments.aarch64
    if arguments.count:
        found = counted(bundle, arguments.cpu or list(COUNTED), folder)
    else:
        found = report(bundle, arguments.cpu or [*CPUS, *(AARCH64_CPUS if folder else ())], arguments.pictures, folder)
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
