"""`edgecxr doctor`: what this machine has, and what is wrong with it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal

from edgecxr.bundle import reader as bundle
from edgecxr.engines import ort, select
from edgecxr.errors import EdgecxrError, UnavailableError
from edgecxr.scoring import remembered
from edgecxr.system import machine

# module that an extra of the lab brings -> the extra
EXTRAS = {"tensorflow": "train", "matplotlib": "train", "tf2onnx": "export", "onnx": "export"}
OTHERS = tuple(row for row in select.TABLE if row.name != ort.NAME)  # which has a part of its own, for its two packages


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `repair` is what to do about it, empty where nothing is needed."""

    level: Literal["ok", "note", "problem"]
    what: str
    repair: str = ""


@dataclass(frozen=True)
class Checkup:
    """The machine's fingerprint and the findings; `healthy` where no finding is a problem."""

    machine: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        return all(finding.level != "problem" for finding in self.findings)


def look() -> Checkup:
    """Look at engines, devices, the embedded bundle and the extras; changes nothing and never raises."""
    fingerprint = select.fingerprint()
    findings = [*_engines(fingerprint), *_bundle(), *_cpu(fingerprint), *_extras()]
    return Checkup(fingerprint, tuple(findings))


def _engines(fingerprint: dict[str, Any]) -> list[Finding]:
    installed = select.installed_engines()
    found = _onnxruntime(fingerprint) if ort.NAME in installed or _onnxruntimes() else []
    found += [_other(row) for row in OTHERS if row.name in installed]
    if not found:
        try:
            select.choose_engine(bundle.load(), select.ANYTHING, ())
        except EdgecxrError as error:
            found = [Finding("problem", str(error), "pip install 'edgecxr[cpu]'  (or [gpu])")]
    absent = [row for row in OTHERS if row.name not in installed]
    if absent:
        extras = ",".join(row.extra for row in absent)
        what = f"engines that aren't installed: {', '.join(row.name for row in absent)}; one engine is enough"
        found.append(Finding("note", what, f"pip install 'edgecxr[{extras}]'"))
    return found


def _onnxruntimes() -> tuple[str, ...]:
    """Versions of the two packages that bring ONNX Runtime, as many as are installed."""
    versions = map(machine.package_version, select.ROWS[ort.NAME].packages)
    return tuple(version for version in versions if version)


def _onnxruntime(fingerprint: dict[str, Any]) -> list[Finding]:
    cpu, gpu = map(machine.package_version, select.ROWS[ort.NAME].packages)
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


def _other(engine: select.Row) -> Finding:
    """An engine that one package brings, and that is there at least in part."""
    (package,) = engine.packages
    try:
        devices = engine.code.available_devices()
    except UnavailableError as error:
        repair = f"pip uninstall -y {package} && pip install 'edgecxr[{engine.extra}]'"
        return Finding("problem", str(error), repair)
    version = machine.package_version(package) or "of unknown version"
    computes = ", ".join(engine.code.on_cpu())
    return Finding("ok", f"{engine.name} {version}, devices: {', '.join(devices)}, precisions: {computes}")


def _bundle() -> list[Finding]:
    found: list[Finding] = []
    installed = select.installed_engines()
    for name in dict.fromkeys((bundle.DEFAULT, *bundle.present())):
        try:
            embedded = bundle.load() if name == bundle.DEFAULT else bundle.load(name)
            for file in embedded.files:
                embedded.read(file)
        except EdgecxrError as error:
            found.append(
                Finding("problem", f"the embedded bundle {name}: {error}", "pip install --force-reinstall edgecxr")
            )
            continue
        found.append(Finding("ok", f"embedded bundle {embedded.name} {embedded.version}, every hash right"))
        found += _tuned(embedded)
        try:
            if installed:  # else that was said above
                select.choose_engine(embedded, select.ANYTHING, installed)
        except UnavailableError as error:
            found.append(Finding("problem", f"the embedded bundle {name}: {error}"))
    return found


def _tuned(embedded: bundle.Bundle) -> list[Finding]:
    """What `auto` takes because of an earlier `edgecxr tune`."""
    winner, note = remembered.remembered(embedded)
    if note is not None:
        return [Finding("note", note, "edgecxr tune  (or edgecxr tune --forget)")]
    if winner is None:
        return []
    what = (
        f"{winner.engine} {winner.precision} on {winner.device}, {winner.workers} workers of {winner.threads} threads"
    )
    return [Finding("ok", f"tuned here for {embedded.name} {embedded.version}: {what}, batches of {winner.batch_size}")]


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
    absent = sorted({extra for module, extra in EXTRAS.items() if importlib.util.find_spec(module) is None})
    if not absent:
        return [Finding("ok", "training and export are installed")]
    return [
        Finding(
            "note",
            f"not installed: {', '.join(absent)}; a device needs neither",
            f"pip install 'edgecxr[{','.join(absent)}]'",
        )
    ]
