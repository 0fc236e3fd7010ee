"""Which artifact runs on which engine and device: policy, pure except for `choose`, `choices` and `open_engine`."""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from edgecxr.bundle import Artifact, Bundle
from edgecxr.engines import Engine, litert, ort, ov
from edgecxr.errors import BundleError, UnavailableError

# The order in which `auto` tries them. OpenVINO was faster wherever it was measured, but ONNX Runtime is what the gates
# and golden vectors of a bundle are made with: a device's answers stay what they were when another engine is installed
# beside it, and `edgecxr bench` shows what a change would gain.
ORDER = (ort.NAME, ov.NAME, litert.NAME)
FORMATS = {ort.NAME: "onnx", ov.NAME: "onnx", litert.NAME: "tflite"}
COMPUTES = {ort.NAME: ("fp32", "tf32", "fp16", "int8"), ov.NAME: tuple(ov.HINTS), litert.NAME: litert.PRECISIONS}
MODULES = {ort.NAME: "onnxruntime", ov.NAME: "openvino", litert.NAME: "ai_edge_litert"}
EXTRAS = {ort.NAME: "cpu", ov.NAME: "openvino", litert.NAME: "litert"}

DEVICES = ("auto", *ort.PROVIDERS)
ENGINES = ("auto", *ORDER)
PRECISIONS = ("auto", "fp32", "tf32", "bf16", "fp16", "int8")

# What is fastest at equal answers: tensor cores take halves; a CPU takes bytes, and computes halves in software.
PREFERENCE = {"cpu": ("int8", "fp32"), "cuda": ("fp16", "fp32"), "tensorrt": ("fp16", "fp32")}
GPUS = ("cuda", "tensorrt")  # of NVIDIA, through ONNX Runtime

# Computed from the fp32 artifact: bfloat16 by OpenVINO on CPUs that have it, TF32 on GPUs.
FROM_FP32 = ("bf16", "tf32")


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


def installed_engines() -> tuple[str, ...]:
    """Engines whose package is there, in the order of preference; imports none of them."""
    return tuple(name for name in ORDER if importlib.util.find_spec(MODULES[name]) is not None)


def available_devices(engine: str) -> tuple[str, ...]:
    """Devices that the engine can use here; imports it, and raises UnavailableError where it is absent or broken."""
    if engine == ov.NAME:
        return ov.available_devices()
    return litert.available_devices() if engine == litert.NAME else ort.available_devices()


def choose_engine(bundle: Bundle, engine: str, device: str, precision: str, installed: Sequence[str]) -> str:
    """The engine that was asked for, or for `auto` the first installed one that can run something of the bundle so."""
    if engine != "auto":
        return engine
    if not installed:
        raise UnavailableError("no inference engine is installed, run: pip install 'edgecxr[cpu]' (or 'edgecxr[gpu]')")
    able = [name for name in installed if _able(bundle, name, device, precision)]
    if able:
        return able[0]
    absent = [name for name in ORDER if name not in installed and _able(bundle, name, device, precision)]
    if absent:
        asked = "" if precision == "auto" else f" in {precision}"
        raise UnavailableError(
            f"{' and '.join(installed)} can't run this bundle{asked}, {absent[0]} can; "
            f"run: pip install 'edgecxr[{'gpu' if device in GPUS else EXTRAS[absent[0]]}]'"
        )
    return installed[0]  # which can't either, and says why


def _able(bundle: Bundle, engine: str, device: str, precision: str) -> bool:
    if engine != ort.NAME and (device in GPUS or precision == "tf32"):
        return False
    wanted = PREFERENCE["cpu"] + PREFERENCE["cuda"] if precision == "auto" else (precision,)
    held = {artifact.precision for artifact in bundle.artifacts if artifact.format == FORMATS[engine]}
    return any(p in COMPUTES[engine] and stored(p) in held for p in wanted)


def choose_device(bundle: Bundle, device: str, precision: str, available: Sequence[str], engine: str = ort.NAME) -> str:
    """The device to use: the one that was asked for, or for `auto` a GPU where it is there and the bundle suits it."""
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
    return "cuda" if "cuda" in available and suits and precision != "int8" else "cpu"


def _way_to(device: str, available: Sequence[str], engine: str) -> str:
    if device not in GPUS:
        return f"give --device {available[0]}"
    if engine != ort.NAME:
        return f"give --engine {ort.NAME}, which alone uses NVIDIA GPUs"
    if "cuda" in available:
        return "this build has no TensorRT provider; give --device cuda"
    return "run: pip uninstall -y onnxruntime, then pip install 'edgecxr[gpu]'"


def choose_artifact(bundle: Bundle, device: str, precision: str, engine: str = ort.NAME) -> Artifact:
    """The artifact to run on `engine` and `device`; raises UnavailableError where the bundle holds none that fits."""
    kind = FORMATS[engine]
    artifacts = {artifact.precision: artifact for artifact in bundle.artifacts if artifact.format == kind}
    held = ", ".join(artifacts) or "none"
    if precision != "auto":
        if precision not in COMPUTES[engine]:
            others = [name for name in ORDER if precision in COMPUTES[name]]
            raise UnavailableError(
                f"{engine} doesn't compute in {precision} here, only in {', '.join(COMPUTES[engine])}; "
                f"give --engine {others[0]}"
            )
        if device in GPUS and precision == "int8":
            raise UnavailableError(f"int8 artifacts are for CPUs; on {device} take fp16 or fp32")
        if device == "cpu" and precision == "tf32":
            raise UnavailableError("tf32 is computed on NVIDIA GPUs only, got the device cpu")
        if stored(precision) not in artifacts:
            raise UnavailableError(
                f"the bundle holds no {stored(precision)} {_KINDS[kind]} artifact for {engine}, only: {held}; "
                f"{_export(kind, stored(precision))} makes one"
            )
        return artifacts[stored(precision)]
    fitting = [p for p in PREFERENCE[device] if p in COMPUTES[engine]]
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


def _export(kind: str, precision: str) -> str:
    formats = "" if kind == "onnx" else f"--formats {kind} "  # onnx is the command's default
    return f"edgecxr export {formats}--precisions {precision}"


_KINDS = {"onnx": "ONNX", "tflite": "TFLite"}


def choose(bundle: Bundle, *, engine: str = "auto", device: str = "auto", precision: str = "auto") -> Choice:
    """What `infer` runs; imports the engine that it chooses, and for `auto` broken ones that come before it.

    Raises UnavailableError where the engine that was asked for, or for `auto` each that could run it, is absent or
    broken.
    """
    installed = installed_engines()
    first = choose_engine(bundle, engine, device, precision, installed)
    able = [name for name in installed if _able(bundle, name, device, precision)] or installed
    name, available, broken = _first_usable((first,) if engine != "auto" else able)
    chosen = choose_device(bundle, device, precision, available, name)
    artifact = choose_artifact(bundle, chosen, precision, name)
    return Choice(artifact, name, chosen, computed(artifact, chosen, precision), broken)


def _first_usable(engines: Sequence[str]) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The first engine that can be used, its devices, and what is wrong with those before it."""
    broken: list[str] = []
    for name in engines:
        try:
            return name, available_devices(name), tuple(broken)
        except UnavailableError as error:
            broken.append(str(error))
    raise UnavailableError("; ".join(broken))


def choices(
    bundle: Bundle, *, engine: str = "auto", device: str = "auto", precision: str = "auto"
) -> tuple[tuple[Choice, ...], tuple[str, ...]]:
    """Every artifact on every installed engine that can run it; and what can't be run or used, with the reason.

    An engine or precision that was asked for by name is the only one. Raises UnavailableError where the bundle holds no
    such artifact, or where the engine that was asked for, or for `auto` each that could run it, is absent or broken.
    """
    artifacts = [a for a in bundle.artifacts if precision == "auto" or a.precision == stored(precision)]
    if not artifacts:
        held = ", ".join(artifact.precision for artifact in bundle.artifacts)
        raise UnavailableError(f"the bundle holds no {stored(precision)} artifact, only: {held}")
    installed = installed_engines() if engine == "auto" else (engine,)
    choose_engine(bundle, engine, device, precision, installed)  # raises where none can
    available, broken = _usable(installed)
    if not any(_able(bundle, name, device, precision) for name in available):
        lost = [why for name, why in broken.items() if _able(bundle, name, device, precision)]
        if lost or not available:
            raise UnavailableError("; ".join(lost or broken.values()))
    everywhere = sorted({found for devices in available.values() for found in devices})
    found: list[Choice] = []
    not_run = list(broken.values())
    named = ort.NAME if engine == "auto" else engine  # what is said of a device that isn't there is said of it
    for artifact in artifacts:
        asked = artifact.precision if precision == "auto" else precision
        target = choose_device(bundle, device, asked, everywhere, named)
        wanted = computed(artifact, target, precision)
        able = [name for name in ORDER if FORMATS[name] == artifact.format and wanted in COMPUTES[name]]
        here = [name for name in able if name in available]
        if target in GPUS and wanted == "int8":
            not_run.append(f"{artifact.file}: int8 artifacts are for CPUs")
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
        return f"{able[0]} can: pip install 'edgecxr[{EXTRAS[able[0]]}]'"
    if there[0] in broken:
        return f"{there[0]} could, and is broken"
    return f"{there[0]} can: --engine {there[0]}"


def make_engine(engine: str, model: bytes, device: str, precision: str, threads: int, workers: int = 1) -> Engine:
    """Load the bytes of an artifact for `workers` calls at a time.

    ONNX Runtime's workers share one pool of `threads`; in the other engines each has as many of its own.
    """
    if engine == ov.NAME:
        return ov.OpenVinoEngine(model, device, precision, threads, workers)
    if engine == litert.NAME:
        return litert.LiteRtEngine(model, device, precision, threads)
    return ort.OnnxRuntimeEngine(model, device, precision, threads)


def open_engine(bundle: Bundle, choice: Choice, threads: int, workers: int = 1) -> Engine:
    """Read and check the artifact's bytes and load those very bytes."""
    file = choice.artifact.file
    engine = make_engine(choice.engine, bundle.read(file), choice.device, choice.precision, threads, workers)
    contract = bundle.preprocessing
    expected = ((contract.height, contract.width, 1), len(bundle.labels))
    if (engine.input_shape, engine.classes) != expected:
        raise BundleError(
            f"{file} doesn't fit the bundle: expected inputs {expected[0]} and {expected[1]} classes, got "
            f"{engine.input_shape} and {engine.classes}"
        )
    return engine
