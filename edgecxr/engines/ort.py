"""ONNX Runtime: CPU, CUDA, and TensorRT as its provider brings it."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.engines import LOAD_ERRORS, Outputs, known_outputs
from edgecxr.engines.pool import Pool
from edgecxr.errors import BundleError, DeviceMemoryError, UnavailableError
from edgecxr.system import machine

NAME = "onnxruntime"
INSTALL = "pip install 'edgecxr[cpu]' (or 'edgecxr[gpu]')"
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
PRECISIONS = ("fp32", "tf32", "fp16", "int8", "int8-symmetric")
UNTESTED = {"tensorrt": "TensorRT has not been tested with edgecxr; run edgecxr verify --device tensorrt"}

# What stands in the messages of ONNX Runtime's arena and of CUDA where a GPU's memory doesn't suffice
# (onnxruntime/core/framework/bfc_arena.cc, cudaErrorMemoryAllocation, CUBLAS_STATUS_ALLOC_FAILED).
_OUT_OF_MEMORY = ("failed to allocate memory", "out of memory", "alloc_failed", "cuda failure 2:")


def available_devices() -> tuple[str, ...]:
    """Devices that the installed build could use; raises UnavailableError where there is no build or a broken one."""
    providers = _library().get_available_providers()
    return tuple(device for device, provider in PROVIDERS.items() if provider in providers)


def on_cpu() -> tuple[str, ...]:
    """Precisions that ONNX Runtime computes on a CPU."""
    return tuple(precision for precision in PRECISIONS if precision != "tf32")


def load(model: bytes, device: str, precision: str, threads: int, workers: int = 1) -> OnnxRuntimeEngine:
    """As `EngineModule` has it; `workers` share one pool of `threads`."""
    return OnnxRuntimeEngine(model, device, precision, threads)


class OnnxRuntimeEngine:
    """An ONNX artifact in an InferenceSession, made from bytes so that no second file can be pulled in by name."""

    name = NAME

    def __init__(self, model: bytes, device: str, precision: str, threads: int) -> None:
        """Load `model` on `device` or raise: UnavailableError for the device, BundleError for the model.

        `tf32` is computed on CUDA from an fp32 artifact: products rounded to 10 bits of mantissa, added up in float32.
        """
        ort = _library()
        provider = PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise UnavailableError(
                f"the installed onnxruntime has no {provider}; run: pip uninstall onnxruntime onnxruntime-gpu, then "
                "pip install 'edgecxr[gpu]'"
            )
        if precision == "tf32" and device == "cpu":
            raise UnavailableError("tf32 is computed on NVIDIA GPUs only, got the device cpu")
        if precision == "fp32" and device == "tensorrt":
            raise UnavailableError("TensorRT computes fp32 artifacts in tf32; give --precision tf32 or fp16")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: its warnings about node placement are no news to a user
        if device != "cpu":
            _preload()
        try:
            # Without its own fallback: in Python it would go on with another provider after an error, at loading or at
            # any later call, and say so on stdout only.
            session = ort.InferenceSession(
                model, options, providers=provider_options(device, precision, model), enable_fallback=0
            )
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            if device != "cpu":
                raise UnavailableError(f"{provider} can't be used ({_first_line(error)})") from None
            raise BundleError(f"onnxruntime can't load the {precision} artifact ({_first_line(error)})") from None
        if session.get_providers()[0] != provider:
            # A provider whose libraries are missing is left out with no more than a log line.
            raise UnavailableError(
                f"{provider} was asked for and onnxruntime uses {session.get_providers()[0]} instead"
            )
        self._session = session
        self._input = session.get_inputs()[0].name
        self._bindings: dict[tuple[int, ...], Pool[_Binding]] = {}
        self.provider, self.device, self.precision, self.threads = provider, device, precision, threads
        self.input_shape = tuple(session.get_inputs()[0].shape[1:])  # (H, W, 1)
        shapes = {output.name: output.shape for output in session.get_outputs()}
        if session.get_inputs()[0].type != "tensor(uint8)":
            raise BundleError(f"the artifact's input must be uint8, got {session.get_inputs()[0].type}")
        if not known_outputs(list(shapes)):
            raise BundleError(f"the artifact's outputs must be logits and evidence, got {', '.join(shapes)[:200]}")
        if "ood" in shapes and shapes["ood"][1:] != [1]:
            raise BundleError(f"the artifact's ood must be (N, 1), got {str(tuple(shapes['ood']))[:200]}")
        self._outputs = list(shapes)
        self.classes = shapes["logits"][-1]

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        if self.device == "cpu":
            found = self._session.run(self._outputs, {self._input: images})
            return Outputs(**dict(zip(self._outputs, found, strict=True)))
        return self._run_bound(images)

    def _run_bound(self, images: npt.NDArray[np.uint8], memory: str = "cuda") -> Outputs:
        """`run` with the pictures copied into memory of the device that is kept for batches of this shape."""
        pool = self._bindings.setdefault(
            images.shape, Pool(lambda: _Binding(self._session, self._outputs, images.shape, memory))
        )
        try:
            with pool.lent() as binding:
                return binding.run(images)
        except Exception as error:  # as above
            if any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
                raise DeviceMemoryError(f"the memory of the GPU doesn't suffice for batches of {len(images)}") from None
            raise UnavailableError(f"{self.provider} failed while it ran ({_first_line(error)})") from None


class _Binding:
    """Input memory on a device, bound to the network's input, and its outputs bound there; not thread-safe."""

    def __init__(self, session: Any, outputs: Sequence[str], shape: tuple[int, ...], memory: str) -> None:
        self._session, self._outputs = session, outputs
        self._images = load_library().OrtValue.ortvalue_from_shape_and_type(shape, np.uint8, memory, 0)
        self._binding = session.io_binding()
        self._binding.bind_ortvalue_input(session.get_inputs()[0].name, self._images)
        for name in outputs:
            self._binding.bind_output(name, memory)

    def run(self, images: npt.NDArray[np.uint8]) -> Outputs:
        self._images.update_inplace(np.ascontiguousarray(images))
        self._session.run_with_iobinding(self._binding)
        # In the order in which they were bound.
        return Outputs(**dict(zip(self._outputs, self._binding.copy_outputs_to_cpu(), strict=True)))


def provider_options(device: str, precision: str, model: bytes = b"") -> list[tuple[str, dict[str, str]]]:
    """The providers for a device with their options, in ONNX Runtime's form; first the one that is asked for."""
    if device == "cpu":
        return [(PROVIDERS["cpu"], {})]
    # TF32 rounds fp32 products to 10 bits of mantissa: used where it was asked for, and then said in every record.
    cuda = (PROVIDERS["cuda"], {"use_tf32": "1" if precision == "tf32" else "0"})
    if device == "cuda":
        return [cuda]
    cache = tensorrt_cache(model)
    tensorrt = {
        "trt_fp16_enable": "1" if precision == "fp16" else "0",
        "trt_int8_enable": "1" if precision == "int8-symmetric" else "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(cache),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(cache),
    }
    # What TensorRT doesn't take goes to CUDA, as ONNX Runtime's documentation advises.
    return [(PROVIDERS["tensorrt"], tensorrt), cuda]


def tensorrt_cache(model: bytes) -> Path:
    """A folder for the engines that TensorRT builds of `model`: it runs on this GPU, with these versions, only."""
    versions = [machine.package_version(name) or "" for name in ("onnxruntime-gpu", "tensorrt")]
    parts = [hashlib.sha256(model).hexdigest(), *machine.gpu_identity(), *versions]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    root = machine.cache_folder()
    if root is None:
        raise UnavailableError("TensorRT's engines can't be kept: there is no home folder; set XDG_CACHE_HOME")
    folder = root / "tensorrt" / key
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError(f"TensorRT's engines can't be kept ({error.strerror}): {folder}") from None
    return folder


@functools.cache
def _preload() -> None:
    """Load the CUDA and cuDNN libraries that pip installed, once a process."""
    load_library().preload_dlls()


def load_library() -> Any:
    """The package onnxruntime, imported so that it tells nobody: nothing of ours imports it otherwise.

    Official builds (seen with 1.32) report their use to Microsoft and keep an identifier in the user's cache
    folder, unless this variable is set before they are loaded (their Privacy.md, "Disabling Telemetry").

    Raises ModuleNotFoundError where it isn't installed, ImportError where it is and can't be loaded.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # who set it knows why
    try:
        import onnxruntime

        # Absent where onnxruntime and onnxruntime-gpu were installed over each other and one was removed.
        onnxruntime.get_available_providers()
    except ImportError:
        raise
    except LOAD_ERRORS as error:
        raise ImportError(_first_line(error)) from error
    return onnxruntime


def _library() -> Any:
    try:
        return load_library()
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise UnavailableError(f"onnxruntime isn't installed, run: {INSTALL}") from None
        raise UnavailableError(
            f"onnxruntime is installed and can't be loaded ({_first_line(error)}), run: pip uninstall -y onnxruntime "
            f"onnxruntime-gpu, then {INSTALL}"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
