"""What a fit says too often of one class and too seldom of another, found on the dev split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize  # type: ignore[import-untyped]

from edgecxr.lab.evaluation.temperature import BOUNDS

DIGITS = 4  # more than a dev split tells, and hardly a sum's last bits


def class_biases(logits: npt.NDArray[np.floating], classes: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """What is to be added to logits (N, K) of true classes (N,) for the least negative log-likelihood: (K,), mean 0.

    Found together with a temperature, which isn't returned: bias-corrected temperature scaling (Alexandari, Kundaje,
    Shrikumar, "Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation", ICML
    2020). A standard normal prior on each bias, in the logits' own units, keeps those of a class that few pictures
    show finite.
    """
    values, count = np.asarray(logits, dtype=np.float64), logits.shape[1]
    truth = np.eye(count)[classes]

    def cost(parameters: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        scale, biases = np.exp(parameters[0]), parameters[1:]
        scaled = scale * (values + biases)
        logs = scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        slope = (np.exp(logs) - truth) / len(values)  # of the mean, by each scaled logit
        total = -logs[truth == 1].mean() + 0.5 * (biases**2).sum() / len(values)
        return total, np.array([(slope * scaled).sum(), *(scale * slope.sum(axis=0) + biases / len(values))])

    coldest, hottest = BOUNDS
    limits = [(-np.log(hottest), -np.log(coldest)), *[(None, None)] * count]
    found = minimize(cost, np.zeros(1 + count), jac=True, method="L-BFGS-B", bounds=limits).x[1:]
    biases: npt.NDArray[np.float64] = np.round(found - found.mean(), DIGITS)
    return biases
