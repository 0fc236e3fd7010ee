"""The int8 artifacts: the way chosen on half of dev, then convolutions to float until the gate is passed there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rich.console import Console

from edgecxr.bench import spread
from edgecxr.engines import Engine
from edgecxr.engines.select import SYMMETRIC
from edgecxr.lab.run import Logits
from edgecxr_export.graphs import onnx_graph
from edgecxr_export.graphs.artifacts import ONNX, TFLITE, NetworkFile
from edgecxr_export.int8 import quantize, ways
from edgecxr_export.int8.networks import Networks
from edgecxr_export.parity.compare import Parity

Key = TypeVar("Key", str, int)

# What the gate says of an artifact on dev's choosing half: its parity there, and what it exceeds.
Judge = Callable[[NetworkFile], tuple[Parity, list[str]]]


@dataclass(frozen=True)
class Task:
    """What both int8 files are made from and measured by."""

    calibration: npt.NDArray[np.uint8]  # (M, H, W, 1), of `quantize.calibration_inputs`
    inputs: npt.NDArray[np.uint8]  # (N, H, W, 1), of dev's choosing half
    dev: Logits  # of the float32 reference, in the same order
    metadata: Mapping[str, str]
    judge: Judge
    console: Console

    def sample(self, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """`count` dev inputs, evenly chosen, and their reference logits."""
        places = np.asarray(spread(len(self.inputs), count))
        return self.inputs[places], self.dev.logits[places]


def onnx_int8(
    networks: Networks, opset: int, task: Task, *, full_range: bool = False, zero_point_0: bool = False
) -> tuple[NetworkFile, dict[str, Any]]:
    """(the int8 ONNX artifact, the report of how it was chosen); with `zero_point_0` that of symmetric activations."""
    quantizer = ways.Quantizer(networks, full_range=full_range, zero_point_0=zero_point_0)
    precision = SYMMETRIC if zero_point_0 else "int8"

    def build(way: ways.Way, keep_float: Sequence[str] = ()) -> NetworkFile:
        made = onnx_graph.serialise(quantizer.build(way, keep_float), task.metadata)
        details = {
            "opset": opset,
            "ir_version": onnx_graph.IR_VERSION,
            "weight_bits": 8 if full_range else 7,
            "float_nodes": sorted(keep_float),
        }
        return NetworkFile(ONNX, precision, made, details)

    # Biases are corrected where they are integers; those of the symmetric file are floats.
    changes = ways.CHANGES if zero_point_0 else (*ways.CHANGES, ways.CORRECTED)
    way, trials = _chosen(build, task, changes)
    artifact, floated = until_it_passes(lambda nodes: build(way, nodes), lambda: quantizer.suspects(way), task)
    settings = asdict(quantize.Settings(**({"activations": "int8, zero point 0"} if zero_point_0 else {})))
    settings |= {"weight_levels": quantize.LEVELS["full" if full_range else "reduced"]}
    return artifact, {
        "settings": settings,
        "chosen": asdict(way),
        "trials": [trial.to_json() for trial in trials],
        **floated,
    }


def tflite_int8(model: Any, networks: Networks, task: Task) -> tuple[NetworkFile, dict[str, Any]]:
    """The int8 TFLite artifact of the deploy `model` (Keras, float32 input), and its report.

    `networks` are of the same model's ONNX graph: their weights and ranges go into the TFLite one.
    """
    from edgecxr_export.graphs import tflite as litert
    from edgecxr_export.int8 import transfer

    # Of the converter's own ranges the picture's alone is used: black and white, and one to show something.
    calibrated = litert.calibrate(model, task.calibration, task.calibration[-quantize.ENDS - 1 :])
    wiring = transfer.match(calibrated.model, networks.model)
    levels = quantize.LEVELS["full"]  # LiteRT's kernels add products up in 32 bits
    prepared: dict[ways.Way, litert.Calibrated] = {}

    def build(way: ways.Way, places: Sequence[int] = ()) -> NetworkFile:
        if way not in prepared:
            prepared.clear()  # a network is some 90 MB
            network = networks.network(way.channels, way.rounding, levels)
            moved = transfer.moved(calibrated.model, wiring, network, networks.ranges(way.channels, way.clip))
            prepared[way] = replace(calibrated, model=moved)
        made = litert.serialise_int8(prepared[way], keep_float=places, metadata=task.metadata)
        names = [calibrated.convolutions[place] for place in sorted(places)]
        return NetworkFile(TFLITE, "int8", made, {"weight_bits": 8, "float_nodes": names})

    def suspects() -> list[int]:
        losses = networks.losses(way.channels, way.rounding, levels)
        return ways.worst({place: losses[node] for place, node in wiring.convolutions.items()})

    way, trials = _chosen(build, task, ways.CHANGES)
    artifact, floated = until_it_passes(lambda places: build(way, places), suspects, task)
    return artifact, {
        "settings": {"weights": "int8, per channel", "weight_levels": levels},
        "chosen": asdict(way),
        "trials": [trial.to_json() for trial in trials],
        **floated,
    }


def _chosen(
    build: Callable[[ways.Way], NetworkFile], task: Task, changes: Sequence[Mapping[str, str]]
) -> tuple[ways.Way, list[ways.Trial]]:
    """The best way on some pictures of dev, and all that were tried; each is told on the console."""
    pictures, logits = task.sample(ways.CHOICE_PICTURES)
    file = ""

    def engine(way: ways.Way) -> Engine:
        nonlocal file
        artifact = build(way)
        file = artifact.file
        return artifact.engine

    return ways.choose_way(
        engine,
        pictures,
        logits,
        lambda trial: task.console.print(f"  {file}{_line(trial)}", highlight=False),
        changes,
    )


def until_it_passes(
    build: Callable[[Sequence[Key]], NetworkFile], suspects: Callable[[], Sequence[Key]], task: Task
) -> tuple[NetworkFile, dict[str, Any]]:
    """(the first artifact that passes the gate on the choosing half of dev, or the last tried; what was measured).

    Convolutions go to float one at a time, the most sensitive of the `suspects` first.
    """
    artifact = build([])
    found, breaches = task.judge(artifact)
    task.console.print(
        f"{artifact.file}: {found.flips} flips on {found.pictures} pictures of {found.split}, logits off by "
        f"{found.p99_logits:.1%} of their spread in the 99th percentile"
    )
    steps = [_step([], found, breaches)]
    ranked: list[ways.Sensitivity[Key]] = []
    if breaches:
        task.console.print(f"{artifact.file}: {breaches[0]}; measuring which convolutions suffer most …", markup=False)
        pictures, logits = task.sample(ways.SENSITIVITY_PICTURES)
        nodes = suspects()
        told = itertools.count(1)
        ranked = ways.sensitivities(
            lambda chosen: build(chosen).engine,
            nodes,
            pictures,
            logits,
            lambda sensitivity: task.console.print(
                f"  {next(told)} of {len(nodes)}: with convolution {sensitivity.node} in float, logits are off by "
                f"{sensitivity.mean_dlogit:.4f} on average",
                highlight=False,
            ),
        )
    for count in range(1, min(ways.MAX_FLOAT, len(ranked)) + 1):
        if not breaches:
            break
        chosen = [sensitivity.node for sensitivity in ranked[:count]]
        artifact = build(chosen)
        found, breaches = task.judge(artifact)
        steps.append(_step(chosen, found, breaches))
        task.console.print(
            f"{artifact.file}, {count} convolutions in float: {found.flips} flips on {found.pictures} pictures of "
            f"{found.split}, logits off by {found.p99_logits:.1%}"
        )
    return artifact, {"steps": steps, "sensitivity": [asdict(sensitivity) for sensitivity in ranked]}


def _step(nodes: Sequence[Key], found: Parity, breaches: list[str]) -> dict[str, Any]:
    return {
        "float_nodes": list(nodes),
        "flips": found.flips,
        "pictures": found.pictures,
        "p99_logits": found.p99_logits,
        "max_dp": found.max_dp,
        "drop": found.drop,
        "exceeds": breaches,
    }


def _line(trial: ways.Trial) -> str:
    way = trial.way
    return (
        f": ranges {way.clip}, channels {way.channels}, rounding {way.rounding}, biases {way.biases}: logits off by "
        f"{trial.mean_logits:.2%} of their spread, p99 {trial.p99_logits:.1%}, {trial.flips} flips on "
        f"{trial.pictures} pictures of dev"
    )
