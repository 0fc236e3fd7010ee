"""`edgecxr doctor`: what this machine has, and what is wrong with it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from edgecxr import bundle, machine
from edgecxr.engines import ort
from edgecxr.errors import EdgecxrError, UnavailableError

# module that an extra brings -> the extra
EXTRAS = {"onnxruntime": "cpu", "tensorflow": "train", "matplotlib": "train", "tf2onnx": "export", "onnx": "export"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `repair` is what to do about it, empty where nothing is needed."""

    level: Literal["ok", "note", "problem"]
    what: str
    repair: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The machine's fingerprint and the findings; `healthy` where no finding is a problem."""

    machine: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        return all(finding.level != "problem" for finding in self.findings)


def diagnose() -> Diagnosis:
    """Look at engines, devices, the embedded bundle and the extras; changes nothing and never raises."""
    fingerprint = machine.fingerprint()
    findings = [*_engine(fingerprint), _bundle(), *_cpu(fingerprint), *_extras()]
    return Diagnosis(fingerprint, tuple(findings))


def _engine(fingerprint: dict[str, Any]) -> list[Finding]:
    cpu, gpu = machine.package_version("onnxruntime"), machine.package_version("onnxruntime-gpu")
    if cpu and gpu:
        return [
            Finding(
                "problem",
                f"onnxruntime {cpu} and onnxruntime-gpu {gpu} are both installed and overwrite each other's files",
                "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'edgecxr[gpu]'  (or [cpu])",
            )
        ]
    try:
        devices = ort.available_devices()
    except UnavailableError as error:
        broken = bool(cpu or gpu)
        repair = "pip uninstall -y onnxruntime onnxruntime-gpu && " if broken else ""
        return [Finding("problem", str(error), f"{repair}pip install 'edgecxr[cpu]'  (or [gpu])")]
    found = [Finding("ok", f"onnxruntime {gpu or cpu}, devices: {', '.join(devices)}")]
    if fingerprint["gpus"] and "cuda" not in devices:
        repair = "pip uninstall -y onnxruntime && pip install 'edgecxr[gpu]'"
        found.append(Finding("note", f"a GPU is there and can't be used: {fingerprint['gpus'][0]}", repair))
    return found


def _bundle() -> Finding:
    try:
        embedded = bundle.load()
        for file in embedded.files:
            embedded.read(file)
    except EdgecxrError as error:
        return Finding("problem", f"the embedded bundle: {error}", "pip install --force-reinstall edgecxr")
    return Finding("ok", f"embedded bundle {embedded.name} {embedded.version}, every hash right")


def _cpu(fingerprint: dict[str, Any]) -> list[Finding]:
    found = []
    features = set(fingerprint["cpu_features"])
    if fingerprint["architecture"] in ("x86_64", "AMD64") and not features & {"avx512_vnni", "avx_vnni"}:
        found.append(
            Finding(
                "note",
                "this CPU has no VNNI instructions: int8 gains less, and full-range int8 would saturate "
                "(edgecxr's default range can't)",
                "edgecxr bench",
            )
        )
    usable, online = fingerprint["cpus_usable"], fingerprint["cpus_online"]
    if usable < (online or usable):
        found.append(Finding("note", f"{usable} of {online} CPUs may be used (affinity mask or cgroup quota)"))
    return found


def _extras() -> list[Finding]:
    absent = sorted({extra for module, extra in EXTRAS.items() if importlib.util.find_spec(module) is None} - {"cpu"})
    if not absent:
        return [Finding("ok", "training and export are installed")]
    return [
        Finding(
            "note",
            f"not installed: {', '.join(absent)}; a device needs neither",
            f"pip install 'edgecxr[{','.join(absent)}]'",
        )
    ]
