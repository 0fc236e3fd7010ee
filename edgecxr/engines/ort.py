"""ONNX Runtime: CPU and CUDA."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgecxr.errors import BundleError, UnavailableError

NAME = "onnxruntime"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def available_devices() -> tuple[str, ...]:
    """Devices that the installed build could use, best last; raises UnavailableError where there is no build."""
    try:
        import onnxruntime
    except ImportError as error:
        hint = "run: pip install 'edgecxr[cpu]' (or 'edgecxr[gpu]')"
        raise UnavailableError(f"no inference engine is installed, {hint} ({error})") from None
    if not hasattr(onnxruntime, "get_available_providers"):
        # What is left when onnxruntime and onnxruntime-gpu were installed over each other and one was removed.
        raise UnavailableError("the installation of onnxruntime is broken; edgecxr doctor prints the repair")
    providers = onnxruntime.get_available_providers()
    return tuple(device for device, provider in PROVIDERS.items() if provider in providers)


class OnnxRuntimeEngine:
    """An ONNX artifact in an InferenceSession, made from bytes so that no second file can be pulled in by name."""

    name = NAME

    def __init__(self, model: bytes, device: str, precision: str, threads: int) -> None:
        """Load `model` on `device` or raise: UnavailableError for the device, BundleError for the model."""
        import onnxruntime as ort

        provider = PROVIDERS[device]
        if provider not in ort.get_available_providers():
            raise UnavailableError(
                f"the installed onnxruntime has no {provider}; run: pip uninstall onnxruntime onnxruntime-gpu, then "
                "pip install 'edgecxr[gpu]'"
            )
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only: its warnings about node placement are no news to a user
        provider_options: dict[str, str] = {}
        if device == "cuda":
            ort.preload_dlls()
            # TF32 rounds fp32 products to 10 bits of mantissa: that would not be the precision that was asked for.
            provider_options["use_tf32"] = "0"
        try:
            session = ort.InferenceSession(model, options, providers=[(provider, provider_options)])
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            if device != "cpu":
                raise UnavailableError(f"{provider} can't be used ({_first_line(error)})") from None
            raise BundleError(f"onnxruntime can't load the {precision} artifact ({_first_line(error)})") from None
        if session.get_providers()[0] != provider:
            # onnxruntime falls back to the CPU with no more than a log line.
            raise UnavailableError(
                f"{provider} was asked for and onnxruntime uses {session.get_providers()[0]} instead"
            )
        self._session = session
        self._input = session.get_inputs()[0].name
        self.provider, self.device, self.precision, self.threads = provider, device, precision, threads
        self.input_shape = tuple(session.get_inputs()[0].shape[1:])  # (H, W, 1)
        self.classes = session.get_outputs()[0].shape[-1]
        if session.get_inputs()[0].type != "tensor(uint8)":
            raise BundleError(f"the artifact's input must be uint8, got {session.get_inputs()[0].type}")
        names = [output.name for output in session.get_outputs()]
        if names != ["logits", "evidence"]:
            raise BundleError(f"the artifact's outputs must be logits and evidence, got {', '.join(names)[:200]}")

    def run(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = self._session.run(["logits"], {self._input: images})[0]
        return logits

    def evidence(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        evidence: npt.NDArray[np.float32] = self._session.run(["evidence"], {self._input: images})[0]
        return evidence


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
