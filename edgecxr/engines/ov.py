"""OpenVINO: ONNX artifacts on a CPU, in fp32, integers or, from an fp32 artifact, bfloat16."""

from __future__ import annotations

import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.engines import LOAD_ERRORS, Outputs, known_outputs, signal_stack
from edgecxr.engines.pool import Pool
from edgecxr.errors import BundleError, UnavailableError
from edgecxr.system import machine

NAME = "openvino"
INSTALL = "pip install 'edgecxr[openvino]'"

# OpenVINO's own default turns fp32 into bfloat16, without a word, on CPUs that have it: the precision is always said.
HINTS = {"fp32": "f32", "int8": "f32", "int8-symmetric": "f32", "bf16": "bf16"}

# "location" as a string of its own in a protobuf: the key under which ONNX names a file of external data. OpenVINO
# opens such a file, from the working directory even, and its bytes are in no hash. (The zero ends an overlong length.)
EXTERNAL_DATA = (b"\x08location", b"\x00location")

_first = threading.Lock()  # held by whoever imports openvino, or uses an engine for the first time


def available_devices() -> tuple[str, ...]:
    """Devices that this engine can use here; raises UnavailableError where it isn't installed or broken."""
    try:
        openvino = _import()
        with signal_stack.kept():
            openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    except LOAD_ERRORS as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "openvino":
            raise UnavailableError(f"openvino isn't installed, run: {INSTALL}") from None
        raise UnavailableError(_broken(error)) from None
    return ("cpu",)


def has_bf16() -> bool:
    """Whether this CPU computes in bfloat16."""
    with signal_stack.kept():
        return "BF16" in _import().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def on_cpu() -> tuple[str, ...]:
    """Precisions that OpenVINO computes on this CPU; one that can't be loaded says so when it is to be used."""
    try:
        bf16 = has_bf16()
    except LOAD_ERRORS:
        bf16 = False
    return tuple(precision for precision in HINTS if precision != "bf16" or bf16)


def load(model: bytes, device: str, precision: str, threads: int, workers: int = 1) -> OpenVinoEngine:
    """As `EngineModule` has it; each of `workers` has `threads` of its own."""
    return OpenVinoEngine(model, device, precision, threads, workers)


class OpenVinoEngine:
    """An ONNX artifact compiled for the CPU, from bytes.

    A network whose batch size is known is a tenth faster than one for any: there is one for single pictures, and one
    for everything else where that is ever asked for. A request may be used by one call at a time: each has its own.
    """

    name = NAME

    def __init__(self, model: bytes, device: str, precision: str, threads: int, workers: int = 1) -> None:
        """Load `model` for `workers` calls at a time of `threads` threads each.

        Raises UnavailableError for a device or precision that isn't there, BundleError for the model.
        """
        available = available_devices()
        if device not in available:
            raise UnavailableError(f"openvino is used on {', '.join(available)} only, got {device}")
        if precision not in HINTS:
            raise UnavailableError(f"openvino computes in {', '.join(HINTS)} here, got {precision}")
        if precision == "bf16" and not has_bf16():
            raise UnavailableError("bf16 was asked for, and this CPU has no bfloat16 instructions")
        if any(mark in model for mark in EXTERNAL_DATA):
            raise BundleError("the artifact refers to external data, which is refused: its bytes are in no hash")
        openvino = _import()
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(model)
        except RuntimeError as error:
            raise BundleError(f"openvino can't load the {precision} artifact ({_last_line(error)})") from None
        self._check(openvino)
        self._settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": workers * threads,
            # Pinned, two processes on one device would fight for the first cores while others are idle.
            "ENABLE_CPU_PINNING": False,
        }
        if precision.startswith("int8") and machine.is_arm():
            # OpenVINO 2026.3 and 2026.4 begin to make the graph integers there, find no one precision for a convolution
            # and end. Told to leave it, they compute what the file says in floats.
            self._settings["LP_TRANSFORMS_MODE"] = "NO"
        self.provider, self.device, self.precision, self.threads = "CPU", device, precision, threads
        self._compiling = threading.Lock()
        single = self._model.clone()
        single.reshape({self._input: [1, *self.input_shape]})
        self._pools = {1: self._pool(single)}
        # Two threads that hand the first arrays of a process to openvino 2026.4 wait for each other for ever: one holds
        # the guard of a static in its bindings and wants the interpreter lock, the other the reverse. So the first goes
        # alone.
        with _first:
            self.run(np.zeros((1, *self.input_shape), dtype=np.uint8))

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        with self._requests(len(images)).lent() as request:
            found = request.infer([images])  # copies: the request is used again
            return Outputs(**{name: found[name] for name in self._outputs})

    def _requests(self, batch: int) -> Pool[Any]:
        key = 1 if batch == 1 else 0  # 0: any size
        if key not in self._pools:
            with self._compiling:  # two workers may arrive at once with the first batch
                if key not in self._pools:
                    self._pools[key] = self._pool(self._model)
        return self._pools[key]

    def _pool(self, model: Any) -> Pool[Any]:
        try:
            with signal_stack.kept():
                compiled = self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise BundleError(f"openvino can't compile the {self.precision} artifact ({_last_line(error)})") from None
        used = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if used != HINTS[self.precision]:
            raise UnavailableError(
                f"openvino was told to compute in {HINTS[self.precision]} and computes in {used} instead"
            )
        return Pool(compiled.create_infer_request)

    def _check(self, openvino: Any) -> None:
        """Find the input and the outputs by name; raises BundleError where they aren't those of a deploy graph."""
        inputs, outputs = self._model.inputs, self._model.outputs
        names = [output.any_name if output.names else "?" for output in outputs]
        if not known_outputs(names) or len(inputs) != 1:
            raise BundleError(
                f"the artifact must have one input, and outputs logits and evidence, got {len(inputs)} and "
                f"{', '.join(names)[:200]}"
            )
        if "ood" in names and not outputs[names.index("ood")].partial_shape.compatible(openvino.PartialShape([-1, 1])):
            raise BundleError(f"the artifact's ood must be (N, 1), got {outputs[names.index('ood')].partial_shape}")
        self._outputs = names
        shape, logits = inputs[0].partial_shape, outputs[names.index("logits")].partial_shape
        if inputs[0].element_type != openvino.Type.u8:
            raise BundleError(f"the artifact's input must be uint8, got {inputs[0].element_type.to_string()}")
        if len(shape) != 4 or any(side.is_dynamic for side in list(shape)[1:]) or logits[-1].is_dynamic:
            raise BundleError(f"the artifact's input must be (N, height, width, 1), got {shape}")
        self._input = inputs[0].any_name
        self.input_shape = tuple(side.get_length() for side in list(shape)[1:])  # (H, W, 1)
        self.classes = logits[-1].get_length()


def _import() -> Any:
    """The module, imported so that it tells nobody.

    Importing openvino 2026.4 loads its model converter, which reports the import to Google Analytics and keeps an
    identifier in the home directory (openvino/tools/ovc/__init__.py). Where the package openvino_telemetry is absent
    the converter takes a stub in its place: so it is absent while openvino is imported.
    """
    with _first:
        if "openvino" not in sys.modules:
            present = {name: sys.modules[name] for name in ("openvino_telemetry",) if name in sys.modules}
            sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # documented: its import fails
            try:
                import openvino
            finally:
                del sys.modules["openvino_telemetry"]
                sys.modules.update(present)
        import openvino

        return openvino


def _broken(error: Exception) -> str:
    return (
        f"the installation of openvino is broken ({_last_line(error)}), run: pip uninstall -y openvino, then {INSTALL}"
    )


def _last_line(error: Exception) -> str:
    """Where the reason stands: OpenVINO's messages begin with the source files that they came through."""
    return ([line for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1].strip()[:200]
