"""LiteRT, formerly TensorFlow Lite: TFLite artifacts on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.engines import LOAD_ERRORS, Outputs
from edgecxr.engines.pool import Pool
from edgecxr.errors import BundleError, UnavailableError

NAME = "litert"
INSTALL = "pip install 'edgecxr[litert]'"
PRECISIONS = ("fp32", "fp16", "int8")  # fp16 artifacts hold halves and compute in fp32


def available_devices() -> tuple[str, ...]:
    """Devices that this engine can use here; raises UnavailableError where it isn't installed or broken."""
    try:
        from ai_edge_litert import interpreter

        _ = interpreter.Interpreter
    except LOAD_ERRORS as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "ai_edge_litert":
            raise UnavailableError(f"litert isn't installed, run: {INSTALL}") from None
        raise UnavailableError(_broken(error)) from None
    return ("cpu",)


def on_cpu() -> tuple[str, ...]:
    """Precisions that LiteRT computes on a CPU."""
    return PRECISIONS


def load(model: bytes, device: str, precision: str, threads: int, workers: int = 1) -> LiteRtEngine:
    """As `EngineModule` has it; an interpreter of `threads` is made for each call that overlaps another."""
    return LiteRtEngine(model, device, precision, threads)


class LiteRtEngine:
    """A TFLite artifact, from bytes. An interpreter may be used by one call at a time: each has its own."""

    name = NAME

    def __init__(self, model: bytes, device: str, precision: str, threads: int) -> None:
        """Load `model` for calls of `threads` threads each.

        Raises UnavailableError for a device or precision that isn't there, BundleError for the model.
        """
        available = available_devices()
        if device not in available:
            raise UnavailableError(f"litert is used on {', '.join(available)} only, got {device}")
        if precision not in PRECISIONS:
            raise UnavailableError(f"litert runs {', '.join(PRECISIONS)} artifacts, got {precision}")
        self.provider, self.device, self.precision, self.threads = "CPU", device, precision, threads
        self._interpreters = Pool(lambda: _Interpreter(model, precision, threads))
        with self._interpreters.lent() as first:
            self.input_shape, self.classes = first.input_shape, first.classes

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        with self._interpreters.lent() as interpreter:
            return interpreter.run(images)


class _Interpreter:
    """One interpreter, with its input and outputs found and checked; not thread-safe."""

    def __init__(self, model: bytes, precision: str, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"litert can't load the {precision} artifact ({_first_line(error)})") from None
        self._batch = 0  # what the tensors are allocated for; 0: not known
        self._find_input()
        self._find_outputs()

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        if len(images) != self._batch:
            self._batch = 0
            self._interpreter.resize_tensor_input(self._input, list(images.shape))
            self._interpreter.allocate_tensors()
            self._batch = len(images)
        self._interpreter.set_tensor(self._input, images.astype(self._dtype, copy=False))
        self._interpreter.invoke()
        return Outputs(**{name: self._interpreter.get_tensor(place) for name, place in self.outputs.items()})  # copies

    def _find_input(self) -> None:
        """One input, (N, H, W, 1): uint8 whose numbers are the grey levels themselves, or float32 of 0 to 255."""
        details = self._interpreter.get_input_details()
        if len(details) != 1 or len(details[0]["shape"]) != 4:
            raise BundleError(f"the artifact must have one input (N, height, width, 1), got {len(details)} input(s)")
        found = details[0]
        if found["dtype"] not in (np.uint8, np.float32):
            raise BundleError(f"the artifact's input must be uint8 or float32, got {np.dtype(found['dtype'])}")
        if found["dtype"] is np.uint8 and found["quantization"] != (1.0, 0):
            raise BundleError(f"the artifact's input must have scale 1 and zero point 0, got {found['quantization']}")
        self._input, self._dtype = found["index"], found["dtype"]
        self.input_shape = tuple(int(side) for side in found["shape"][1:])

    def _find_outputs(self) -> None:
        """By their shape, which can't be mistaken: TFLite keeps no order, and its names are the converter's."""
        details = self._interpreter.get_output_details()
        # Classes are two or more, so that of two flat outputs the one of a single column is ood.
        flat = sorted((found for found in details if len(found["shape"]) == 2), key=lambda found: -found["shape"][1])
        maps = [found for found in details if len(found["shape"]) == 4]
        fits = len(flat) in (1, 2) and len(maps) == 1 and len(details) == len(flat) + 1
        fits = fits and flat[0]["shape"][1] == maps[0]["shape"][3]
        fits = fits and (len(flat) == 1 or flat[1]["shape"][1] == 1 < flat[0]["shape"][1])
        if not fits or any(found["dtype"] is not np.float32 for found in details):
            shapes = ", ".join(f"{np.dtype(f['dtype'])} {tuple(map(int, f['shape']))}" for f in details)
            raise BundleError(
                f"the artifact's outputs must be float32 logits (N, K) and evidence (N, h, w, K), got {shapes[:200]}"
            )
        places = zip(("logits", "evidence", "ood"), (flat[0], *maps, *flat[1:]), strict=False)
        self.outputs = {name: found["index"] for name, found in places}
        self.classes = int(flat[0]["shape"][1])


def _broken(error: Exception) -> str:
    return (
        f"the installation of ai-edge-litert is broken ({_first_line(error)}), run: pip uninstall -y ai-edge-litert, "
        f"then {INSTALL}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
