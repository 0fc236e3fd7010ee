"""Golden vectors: inputs that go with the bundle, and what each artifact answered to them where it was made.

The inputs are drawn or random, never a patient's. They needn't look like films: a kernel that saturates or a
provider that rounds is found with any picture that reaches the whole range.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from edgecxr.bundle import GOLDEN_EXPECTED, GOLDEN_INPUTS
from edgecxr.engines import Engine, Outputs, ort
from edgecxr.engines.select import make_engine
from edgecxr.errors import EdgecxrError, UnavailableError
from edgecxr.pictures.preprocess import Contract, preprocess
from edgecxr_export.bundle import reports
from edgecxr_export.graphs.artifacts import NetworkFile, openings
from edgecxr_export.phantoms import draw

PHANTOM_SEEDS = (1, 2, 3, 4)
SOURCE_SIZE = (640, 560)  # px (height, width) at which a phantom is drawn before the contract's preprocessing

# Largest accepted |difference| of a logit on the same engine, on another device. Measured at 299 px on ONNX Runtime and
# one x86-64 CPU: both precisions move by 1e-6 with threads and batch size, and fp32 so with graph optimization off. Its
# remaining room is for GPUs, which weren't measured. int8 moves by 0.06 with graph optimization off, where the same
# numbers go through float kernels and round elsewhere; other integer kernels get three times that. Halves and bfloat16
# round each activation to 11 and 8 bits; CPUs compute halves in float32, and other hardware adds up in another order.
TOLERANCES = {"fp32": 1e-2, "fp16": 0.1, "bf16": 0.3, "int8": 0.2, "int8-symmetric": 0.2}

# Of `ood`, whose unit is how far films' scores lie apart, as many units; or that share of the golden inputs' scores,
# which lie tens of units from films and move with the rounding of large activations.


def golden_inputs(contract: Contract) -> npt.NDArray[np.uint8]:
    """Eight network inputs, uint8 (8, H, W, 1): four phantoms, a gradient, two kinds of noise and a chequerboard."""
    height, width = contract.height, contract.width
    random = np.random.default_rng(299)
    pictures = [preprocess(draw(SOURCE_SIZE, seed).astype(np.uint8), contract) for seed in PHANTOM_SEEDS]
    down, right = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    pictures.append(np.rint(255 * (0.7 * down + 0.3 * right)).astype(np.uint8))
    pictures.append(random.integers(0, 256, (height, width), dtype=np.uint8))
    grains = random.integers(0, 256, (12, 12), dtype=np.uint8)
    pictures.append(preprocess(grains, contract))
    squares = (np.arange(height)[:, None] // 16 + np.arange(width)[None, :] // 16) % 2
    pictures.append((255 * squares).astype(np.uint8))
    return np.stack(pictures)[..., None]


def golden_outputs(engine: Engine, inputs: npt.NDArray[np.uint8]) -> Outputs:
    """Of inputs (G, H, W, 1), one picture at a time, as `verify` and a device run them."""
    return Outputs.joined(engine.run(picture[None]) for picture in inputs)


def expected_json(artifact: str, precision: str, engine: str, outputs: Outputs) -> Mapping[str, Any]:
    """One row of golden/expected.json; `precision` is what was computed."""
    row: dict[str, Any] = {
        "artifact": artifact,
        "engine": engine,
        "precision": precision,
        "tolerance": TOLERANCES[precision],
        "logits": outputs.logits.tolist(),
    }
    if outputs.ood is not None:
        row |= {"ood": outputs.ood.tolist(), "ood_tolerance": ood_tolerance(precision, outputs.ood)}
    return row


def ood_tolerance(precision: str, scores: npt.NDArray[np.float32]) -> float:
    """Largest accepted |difference| of a score, of what `precision` gave for the golden inputs (G, 1)."""
    return TOLERANCES[precision] * max(1.0, float(np.median(np.abs(scores))))


def golden_rows(
    artifacts: Sequence[NetworkFile], inputs: npt.NDArray[np.uint8], console: Console
) -> list[Mapping[str, Any]]:
    """What each artifact answers on every engine that is installed here, in every precision it computes from it."""
    rows = []
    for artifact in artifacts:
        for name, precision in openings(artifact):
            try:
                engine = artifact.open(name, precision, 1)
            except UnavailableError as error:
                console.print(f"note: no golden vectors of {artifact.file} for {name}: {error}", markup=False)
                continue
            rows.append(expected_json(artifact.file, precision, name, golden_outputs(engine, inputs)))
    return rows


def golden_files(inputs: npt.NDArray[np.uint8], rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """golden/ as files."""
    packed = io.BytesIO()
    np.save(packed, inputs, allow_pickle=False)
    return {GOLDEN_INPUTS: packed.getvalue(), GOLDEN_EXPECTED: reports.to_bytes(list(rows))}


def passes_on_gpu(
    artifact: NetworkFile, inputs: npt.NDArray[np.uint8], rows: Sequence[Mapping[str, Any]], devices: Sequence[str]
) -> bool:
    """Whether the artifact gave its golden answers on a GPU of this machine; False where there is none, or no answer.

    `devices` are those that ONNX Runtime can use here.
    """
    (row,) = [row for row in rows if (row["artifact"], row["engine"]) == (artifact.file, ort.NAME)]
    if "cuda" not in devices:
        return False
    try:
        engine = make_engine(ort.NAME, artifact.model, "cuda", artifact.precision, 1)
        outputs = golden_outputs(engine, inputs)
    except EdgecxrError:
        return False  # a GPU in name only; the file stays what it is elsewhere: not verified
    right = bool(np.abs(outputs.logits - np.asarray(row["logits"])).max() <= row["tolerance"])
    if outputs.ood is None:
        return right
    return right and bool(np.abs(outputs.ood - np.asarray(row["ood"])).max() <= row["ood_tolerance"])
