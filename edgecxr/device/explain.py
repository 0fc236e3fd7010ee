"""Why golden answers are wrong here: integer arithmetic that saturates, another engine's doing, or a wrong file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgecxr.engines import ort

if TYPE_CHECKING:
    from edgecxr.device.golden import GoldenCheck


def float_difference(model: bytes, inputs: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]) -> float | None:
    """Largest |difference| of a logit (G, K) from the `expected` where an int8 ONNX file is computed in float here.

    Without its graph optimizations ONNX Runtime takes integers to float before each operator, and no integer kernel of
    this CPU has a part in the answer. `inputs` are uint8 (G, H, W, 1). None where ONNX Runtime isn't installed.
    """
    try:
        onnxruntime = ort.load_library()
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=[ort.PROVIDERS["cpu"]])
    name = session.get_inputs()[0].name
    logits = np.concatenate([session.run(["logits"], {name: picture[None]})[0] for picture in inputs])
    return float(np.abs(logits - expected).max())


def diagnose(checks: Sequence[GoldenCheck], in_float: Mapping[str, float | None], tolerance: float) -> str:
    """One sentence on why checks failed; "" where none did.

    `in_float` are the `float_difference` of failed int8 files, for which `tolerance` is accepted: float kernels round
    elsewhere.
    """
    failed = [check for check in checks if not check.passed]
    if not failed:
        return ""
    wrong = [check for check in failed if not check.logits_passed]
    if not wrong:
        return (
            f"{failed[0].artifact} on {failed[0].engine} gives its logits and is off by up to "
            f"{failed[0].ood_difference:.3g} in ood, so that it abstains from other pictures here; take another "
            "--engine, or get the bundle again from where it was made"
        )
    worst = max(wrong, key=lambda check: np.nan_to_num(check.max_difference, nan=np.inf))
    off = f"{worst.artifact} on {worst.engine} is off by up to {worst.max_difference:.3g} in a logit"
    difference = in_float.get(worst.artifact)
    if difference is not None:
        proof = "right in float arithmetic" if difference <= tolerance else ""
    else:
        proof = _witness(worst, [check for check in checks if check.passed])
    if not proof:
        return (
            f"{off}, and nothing here gives its golden answers: a wrong file, or golden vectors of another one, "
            "rather than this device; get the bundle again from where it was made"
        )
    if worst.precision == "int8":
        return (
            f"{off}, and the file is {proof}: the integer arithmetic of this CPU saturates or rounds otherwise, as it "
            "does on x86 without VNNI with weights of full range; take --precision fp32, or export int8 without "
            "--full-range"
        )
    return f"{off}, and the file is {proof}: {worst.engine} on this {worst.device} computes it wrongly"


def _witness(failed: GoldenCheck, passed: Sequence[GoldenCheck]) -> str:
    """What shows that the file itself is right, as far as that can be told without integer kernels; "" for nothing."""
    for check in passed:
        if check.artifact == failed.artifact:
            return f"right on {check.engine}"
    for check in passed:
        if failed.precision == "int8" and check.engine == failed.engine and check.precision == "fp32":
            return f"whole, with {check.artifact} right"
    return ""
