"""The table of engines, and which artifact runs where: pure except for `choose`, `choices` and `open_engine`."""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgecxr.bundle import Artifact, Bundle
from edgecxr.engines import Engine, EngineModule, litert, ort, ov
from edgecxr.engines.forked import Reopening
from edgecxr.errors import BundleError, UnavailableError, UsageError
from edgecxr.system import machine


@dataclass(frozen=True)
class Row:
    """An engine: what it is called, brought by, and able to do where everything is there for it."""

    name: str
    code: EngineModule  # in this folder
    module: str  # that is imported on demand
    packages: tuple[str, ...]  # that bring the module, each by itself; the first is the usual one
    extra: str  # of edgecxr, that brings the first package
    format: str
    computes: tuple[str, ...]
    devices: tuple[str, ...] = ("cpu",)
    shared_pool: bool = False  # whether its workers share one pool of threads


# The order in which `auto` tries them. OpenVINO was faster wherever it was measured, but ONNX Runtime is what the gates
# and golden vectors of a bundle are made with: a device's answers stay what they were when another engine is installed
# beside it, and `edgecxr bench` shows what a change would gain.
TABLE = (
    Row(
        name=ort.NAME,
        code=ort,
        module="onnxruntime",
        packages=("onnxruntime", "onnxruntime-gpu"),
        extra="cpu",
        format="onnx",
        computes=ort.PRECISIONS,
        devices=tuple(ort.PROVIDERS),
        shared_pool=True,
    ),
    Row(
        name=ov.NAME,
        code=ov,
        module="openvino",
        packages=("openvino",),
        extra="openvino",
        format="onnx",
        computes=tuple(ov.HINTS),
    ),
    Row(
        name=litert.NAME,
        code=litert,
        module="ai_edge_litert",
        packages=("ai-edge-litert",),
        extra="litert",
        format="tflite",
        computes=litert.PRECISIONS,
    ),
)
ROWS = {row.name: row for row in TABLE}
ORDER = tuple(ROWS)
PACKAGES = tuple(package for row in TABLE for package in row.packages)

DEVICES = ("auto", *ort.PROVIDERS)
ENGINES = ("auto", *ORDER)
PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16", "int8", "int8-symmetric")

# What is fastest at equal answers: tensor cores take halves; a CPU takes bytes, and computes halves in software.
PREFERENCE = {"cpu": ("int8", "fp32"), "cuda": ("fp16", "fp32"), "tensorrt": ("fp16", "fp32")}
GPUS = ("cuda", "tensorrt")  # of NVIDIA, through ONNX Runtime

# Symmetric activations are for TensorRT and programs of others: no CPU gains by them, so `auto` never takes them.
SYMMETRIC = "int8-symmetric"
INTEGERS = ("int8", SYMMETRIC)

# Computed from the fp32 artifact: bfloat16 by OpenVINO on CPUs that have it, TF32 on GPUs.
FROM_FP32 = ("bf16", "tf32")


@dataclass(frozen=True)
class Asked:
    """What runs a bundle, as far as it was asked for by name; `auto` leaves it open."""

    engine: str = "auto"  # one of ENGINES
    device: str = "auto"  # one of DEVICES
    precision: str = "auto"  # one of PRECISIONS

    def __post_init__(self) -> None:
        """Raises UsageError for a name that there isn't."""
        for name, known in (("engine", ENGINES), ("device", DEVICES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise UsageError(f"the {name} must be one of {', '.join(known)}, got {str(getattr(self, name))[:40]}")


ANYTHING = Asked()


@dataclass(frozen=True)
class Choice:
    """An artifact, and what runs it."""

    artifact: Artifact
    engine: str
    device: str
    precision: str  # that is computed: the artifact's, or one of FROM_FP32
    # What is wrong with the engines that would have come before this one.
    passed_over: tuple[str, ...] = field(default=(), compare=False)


def stored(precision: str) -> str:
    """The precision of the artifact from which `precision` is computed."""
    return "fp32" if precision in FROM_FP32 else precision


def computed(artifact: Artifact, device: str, precision: str) -> str:
    """What is computed from an artifact on a device where `precision` was asked for, `auto` among them."""
    if precision != "auto":
        return precision
    # TensorRT rounds fp32 products to TF32 by itself wherever the GPU can.
    return "tf32" if device == "tensorrt" and artifact.precision == "fp32" else artifact.precision


def fingerprint() -> dict[str, Any]:
    """The machine's, with the versions of what scores on it."""
    return machine.fingerprint(("edgecxr", "numpy", "pillow", "typer", *PACKAGES))


def installed_engines() -> tuple[str, ...]:
    """Engines whose package is there, in the order of preference; imports none of them."""
    return tuple(name for name in ORDER if importlib.util.find_spec(ROWS[name].module) is not None)


def available_devices(engine: str) -> tuple[str, ...]:
    """Devices that the engine can use here; imports it, and raises UnavailableError where it is absent or broken."""
    return ROWS[engine].code.available_devices()


def in_software(engine: str, precision: str, device: str) -> bool:
    """Whether a precision is only emulated so, and not worth measuring: ONNX Runtime's halves on a CPU, for one."""
    return (engine, precision, device) == (ort.NAME, "fp16", "cpu") or without_integers(engine, precision)


def without_integers(engine: str, precision: str) -> bool:
    """Whether an artifact of integers isn't computed in integers here: by OpenVINO on ARM.

    It takes such files there and computes in floats: halves (openvino_build_deploy, pull request 440) unless it is told
    not to, as here.
    """
    return engine == ov.NAME and precision in INTEGERS and machine.is_arm()


def choose_engine(bundle: Bundle, asked: Asked, installed: Sequence[str]) -> str:
    """The engine that was asked for, or for `auto` the first installed one that can run something of the bundle so."""
    if asked.engine != "auto":
        return asked.engine
    if not installed:
        raise UnavailableError("no inference engine is installed, run: pip install 'edgecxr[cpu]' (or 'edgecxr[gpu]')")
    able = [name for name in installed if _able(bundle, name, asked)]
    if able:
        return able[0]
    absent = [name for name in ORDER if name not in installed and _able(bundle, name, asked)]
    if absent:
        so = "" if asked.precision == "auto" else f" in {asked.precision}"
        raise UnavailableError(
            f"{' and '.join(installed)} can't run this bundle{so}, {absent[0]} can; "
            f"run: pip install 'edgecxr[{'gpu' if asked.device in GPUS else ROWS[absent[0]].extra}]'"
        )
    return installed[0]  # which can't either, and says why


def _able(bundle: Bundle, engine: str, asked: Asked) -> bool:
    row = ROWS[engine]
    if asked.device not in ("auto", *row.devices):
        return False
    wanted = PREFERENCE["cpu"] + PREFERENCE["cuda"] if asked.precision == "auto" else (asked.precision,)
    held = {artifact.precision for artifact in bundle.artifacts if artifact.format == row.format}
    free = asked.engine == "auto"  # an engine that is asked for by name is taken as it is
    able = [p for p in wanted if p in row.computes and not (free and without_integers(engine, p))]
    return any(stored(p) in held for p in able)


def choose_device(bundle: Bundle, asked: Asked, available: Sequence[str], engine: str = ORDER[0]) -> str:
    """The device to use: the one that was asked for, or for `auto` a GPU where it is there and the bundle suits it."""
    device, precision = asked.device, asked.precision
    if device != "auto":
        if device not in available:
            raise UnavailableError(
                f"the device {device} was asked for, and {engine} can use only {', '.join(available)}; "
                f"{_way_to(device, available, engine)}"
            )
        return device
    if precision == "tf32" and "cuda" not in available:
        raise UnavailableError(f"tf32 is computed on NVIDIA GPUs, and here there is only {', '.join(available)}")
    wanted = PREFERENCE["cuda"] if precision == "auto" else (precision,)
    suits = any(artifact.precision in map(stored, wanted) for artifact in bundle.artifacts if artifact.format == "onnx")
    return "cuda" if "cuda" in available and suits and precision not in INTEGERS else "cpu"


def _way_to(device: str, available: Sequence[str], engine: str) -> str:
    if device not in GPUS:
        return f"give --device {available[0]}"
    if device not in ROWS[engine].devices:
        able = next(row.name for row in TABLE if device in row.devices)
        return f"give --engine {able}, which alone uses NVIDIA GPUs"
    if "cuda" in available:
        return "this build has no TensorRT provider; give --device cuda"
    return "run: pip uninstall -y onnxruntime, then pip install 'edgecxr[gpu]'"


def choose_artifact(bundle: Bundle, device: str, precision: str, engine: str = ORDER[0]) -> Artifact:
    """The artifact to run on `engine` and `device`; raises UnavailableError where the bundle holds none that fits."""
    kind, computes = ROWS[engine].format, ROWS[engine].computes
    artifacts = {artifact.precision: artifact for artifact in bundle.artifacts if artifact.format == kind}
    held = ", ".join(artifacts) or "none"
    if precision != "auto":
        if precision not in computes:
            others = [row.name for row in TABLE if precision in row.computes]
            raise UnavailableError(
                f"{engine} doesn't compute in {precision} here, only in {', '.join(computes)}; "
                f"give --engine {others[0]}"
            )
        if misplaced := _misplaced(precision, device):
            raise UnavailableError(f"{misplaced}; on {device} take fp16 or fp32")
        if device == "cpu" and precision == "tf32":
            raise UnavailableError("tf32 is computed on NVIDIA GPUs only, got the device cpu")
        if stored(precision) not in artifacts:
            raise UnavailableError(
                f"the bundle holds no {stored(precision)} {_KINDS[kind]} artifact for {engine}, only: {held}; "
                f"{_export(kind, stored(precision))} makes one"
            )
        return artifacts[stored(precision)]
    fitting = [p for p in PREFERENCE[device] if p in computes and not without_integers(engine, p)]
    for artifact in artifacts.values():
        if artifact.preferred and artifact.precision in fitting:
            return artifact
    for candidate in fitting:
        if candidate in artifacts:
            return artifacts[candidate]
    way = _export(kind, fitting[-1]) if artifacts else f"edgecxr export --formats {kind}"
    raise UnavailableError(
        f"the bundle holds no {_KINDS[kind]} artifact for {engine} on {device}, only: {held}; {way} makes one"
    )


def _misplaced(precision: str, device: str) -> str:
    """Why a device doesn't take an artifact of integers; "" where it does."""
    if device in GPUS and precision == "int8":
        return "int8 artifacts are for CPUs"
    return f"{SYMMETRIC} artifacts are for TensorRT and CPUs" if (precision, device) == (SYMMETRIC, "cuda") else ""


def _export(kind: str, precision: str) -> str:
    formats = "" if kind == "onnx" else f"--formats {kind} "  # onnx is the command's default
    return f"edgecxr export {formats}--precisions {precision}"


_KINDS = {"onnx": "ONNX", "tflite": "TFLite"}


def choose(bundle: Bundle, asked: Asked = ANYTHING) -> Choice:
    """What `infer` runs; imports the engine that it chooses, and for `auto` broken ones that come before it.

    Raises UnavailableError where the engine that was asked for, or for `auto` each that could run it, is absent or
    broken.
    """
    installed = installed_engines()
    first = choose_engine(bundle, asked, installed)
    able = [name for name in installed if _able(bundle, name, asked)] or installed
    name, available, broken = _first_usable((first,) if asked.engine != "auto" else able)
    device = choose_device(bundle, asked, available, name)
    artifact = choose_artifact(bundle, device, asked.precision, name)
    return Choice(artifact, name, device, computed(artifact, device, asked.precision), broken)


def _first_usable(engines: Sequence[str]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The first engine that can be used, its devices, and what is wrong with those before it."""
    broken: list[str] = []
    for name in engines:
        try:
            return name, available_devices(name), tuple(broken)
        except UnavailableError as error:
            broken.append(str(error))
    raise UnavailableError("; ".join(broken))


def choices(bundle: Bundle, asked: Asked = ANYTHING) -> tuple[tuple[Choice, ...], tuple[str, ...]]:
    """Every artifact on every installed engine that can run it; and what can't be run or used, with the reason.

    An engine or precision that was asked for by name is the only one. Raises UnavailableError where the bundle holds no
    such artifact, or where the engine that was asked for, or for `auto` each that could run it, is absent or broken.
    """
    engine, precision = asked.engine, asked.precision
    artifacts = [a for a in bundle.artifacts if precision == "auto" or a.precision == stored(precision)]
    if not artifacts:
        held = ", ".join(artifact.precision for artifact in bundle.artifacts)
        raise UnavailableError(f"the bundle holds no {stored(precision)} artifact, only: {held}")
    installed = installed_engines() if engine == "auto" else (engine,)
    choose_engine(bundle, asked, installed)  # raises where none can
    available, broken = _usable(installed)
    if not any(_able(bundle, name, asked) for name in available):
        lost = [why for name, why in broken.items() if _able(bundle, name, asked)]
        if lost or not available:
            raise UnavailableError("; ".join(lost or broken.values()))
    everywhere = sorted({found for devices in available.values() for found in devices})
    found: list[Choice] = []
    not_run = list(broken.values())
    named = ORDER[0] if engine == "auto" else engine  # what is said of a device that isn't there is said of it
    for artifact in artifacts:
        one = replace(asked, precision=artifact.precision) if precision == "auto" else asked
        target = choose_device(bundle, one, everywhere, named)
        wanted = computed(artifact, target, precision)
        able = [row.name for row in TABLE if row.format == artifact.format and wanted in row.computes]
        here = [name for name in able if name in available]
        if misplaced := _misplaced(wanted, target):
            not_run.append(f"{artifact.file}: {misplaced}")
        elif not able:
            not_run.append(f"{artifact.file}: no engine computes {wanted} from {_KINDS[artifact.format]} files")
        elif not here:
            reason = f"{' and '.join(available)} can't run it so"
            not_run.append(f"{artifact.file}: {reason}, {_another(able, broken)}")
        else:
            found += [Choice(artifact, name, target, wanted) for name in here if target in available[name]]
    return tuple(found), tuple(not_run)


def _usable(engines: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """The devices of those that can be used; and what is wrong with the others."""
    available: dict[str, tuple[str, ...]] = {}
    broken: dict[str, str] = {}
    for name in engines:
        try:
            available[name] = available_devices(name)
        except UnavailableError as error:
            broken[name] = str(error)
    return available, broken


def _another(able: Sequence[str], broken: Container[str]) -> str:
    """Which engine runs what those that were asked for can't, and the way to it."""
    there = [name for name in able if name in installed_engines()]
    if not there:
        return f"{able[0]} can: pip install 'edgecxr[{ROWS[able[0]].extra}]'"
    if there[0] in broken:
        return f"{there[0]} could, and is broken"
    return f"{there[0]} can: --engine {there[0]}"


def make_engine(engine: str, model: bytes, device: str, precision: str, threads: int, workers: int = 1) -> Engine:
    """Load the bytes of an artifact for `workers` calls at a time.

    Where the engine has no shared pool, each of them has `threads` of its own.
    """
    return ROWS[engine].code.load(model, device, precision, threads, workers)


def open_engine(bundle: Bundle, choice: Choice, threads: int, workers: int = 1) -> Engine:
    """Read and check the artifact's bytes and load those very bytes, also in each process forked from this one."""
    file = choice.artifact.file
    model = bundle.read(file)
    engine = Reopening(lambda: make_engine(choice.engine, model, choice.device, choice.precision, threads, workers))
    contract = bundle.preprocessing
    expected = ((contract.height, contract.width, 1), len(bundle.labels))
    if (engine.input_shape, engine.classes) != expected:
        raise BundleError(
            f"{file} doesn't fit the bundle: expected inputs {expected[0]} and {expected[1]} classes, got "
            f"{engine.input_shape} and {engine.classes}"
        )
    return engine
