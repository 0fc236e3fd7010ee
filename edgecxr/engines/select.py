"""Which artifact runs on which device: policy, pure except for `open_engine`."""

from __future__ import annotations

from collections.abc import Sequence

from edgecxr.bundle import Artifact, Bundle
from edgecxr.engines import Engine, ort
from edgecxr.errors import BundleError, UnavailableError

DEVICES = ("auto", *ort.PROVIDERS)
ENGINES = ("auto", ort.NAME)
PRECISIONS = ("auto", "fp32", "fp16", "int8")

# What is fastest at equal answers: tensor cores take halves; a CPU takes bytes, and computes halves in software.
PREFERENCE = {"cuda": ("fp16", "fp32"), "cpu": ("int8", "fp32")}


def choose_device(bundle: Bundle, device: str, precision: str, available: Sequence[str]) -> str:
    """The device to use: the one that was asked for, or for `auto` a GPU where it is there and the bundle suits it."""
    if device != "auto":
        if device not in available:
            raise UnavailableError(
                f"the device {device} was asked for, and the installed engine can use only {', '.join(available)}"
            )
        return device
    wanted = PREFERENCE["cuda"] if precision == "auto" else (precision,)
    suits = any(artifact.precision in wanted for artifact in bundle.artifacts if artifact.format == "onnx")
    return "cuda" if "cuda" in available and suits and precision != "int8" else "cpu"


def choose_artifact(bundle: Bundle, device: str, precision: str) -> Artifact:
    """The artifact to run on `device`; raises UnavailableError where the bundle holds none that fits."""
    artifacts = {artifact.precision: artifact for artifact in bundle.artifacts if artifact.format == "onnx"}
    if precision != "auto":
        if precision not in artifacts:
            held = ", ".join(artifacts) or "none"
            raise UnavailableError(f"the bundle holds no {precision} ONNX artifact, only: {held}")
        if device == "cuda" and precision == "int8":
            raise UnavailableError("int8 artifacts are for CPUs; on cuda take fp16 or fp32")
        return artifacts[precision]
    for artifact in artifacts.values():
        if artifact.preferred and artifact.precision in PREFERENCE[device]:
            return artifact
    for candidate in PREFERENCE[device]:
        if candidate in artifacts:
            return artifacts[candidate]
    raise UnavailableError(
        f"the bundle holds no artifact for {device}, only {', '.join(artifacts) or 'none'}; "
        f"edgecxr export --precisions {PREFERENCE[device][-1]} makes one"
    )


def open_engine(bundle: Bundle, artifact: Artifact, device: str, threads: int) -> Engine:
    """Read and check the artifact's bytes and load those very bytes."""
    engine = ort.OnnxRuntimeEngine(bundle.read(artifact.file), device, artifact.precision, threads)
    contract = bundle.preprocessing
    expected = ((contract.height, contract.width, 1), len(bundle.labels))
    if (engine.input_shape, engine.classes) != expected:
        raise BundleError(
            f"{artifact.file} doesn't fit the bundle: expected inputs {expected[0]} and {expected[1]} classes, got "
            f"{engine.input_shape} and {engine.classes}"
        )
    return engine
