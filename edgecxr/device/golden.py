"""Golden vectors: the answers that a bundle promises, compared with those of an engine on this device.

Integer kernels saturate on some CPUs, providers fall back, drivers differ: the golden vectors find that on the spot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecxr.bundle import Artifact, Bundle, Expected
from edgecxr.engines import Engine, Outputs
from edgecxr.engines.select import ORDER, Choice, without_integers
from edgecxr.errors import BundleError, GateError

# Where the bundle holds no answers of this very engine and precision, another engine's to the same file are the nearest
# reference, and its kernels round elsewhere. Largest accepted |difference| of a logit then; measured between ONNX
# Runtime and OpenVINO at 299 px on golden inputs: 1e-5 in fp32, 0.08 in int8 (0.24 with other weights).
WIDER_TOLERANCES = {"fp32": 0.02, "tf32": 0.2, "fp16": 0.2, "bf16": 0.5, "int8": 0.5, "int8-symmetric": 0.5}


@dataclass(frozen=True)
class GoldenCheck:
    """Golden vectors of one artifact on one engine and device."""

    artifact: str
    precision: str
    engine: str
    provider: str
    device: str
    pictures: int
    max_difference: float  # largest |difference| of a logit
    tolerance: float
    label_flips: int
    reference: str  # the engine whose answers these were compared with
    ood_difference: float | None = None  # largest |difference| of ood; None of a network without this output
    ood_tolerance: float = 0.0

    @property
    def logits_passed(self) -> bool:
        # A NaN compares as not passed.
        return self.max_difference <= self.tolerance

    @property
    def passed(self) -> bool:
        return self.logits_passed and (self.ood_difference is None or self.ood_difference <= self.ood_tolerance)

    @property
    def off_by(self) -> str:
        """What is outside its tolerance, or else how far the logits are from theirs."""
        if self.logits_passed and not self.passed:
            return f"ood of {self.artifact} is off by up to {self.ood_difference:.3g}"
        return f"a logit of {self.artifact} is off by up to {self.max_difference:.3g}"


def self_test(bundle: Bundle, artifact: Artifact, engine: Engine) -> GoldenCheck:
    """Run the golden inputs through an engine that is about to be used; raises GateError where it answers wrongly."""
    choice = Choice(artifact, engine.name, engine.device, engine.precision)
    row, tolerance, _ = reference(bundle, choice)
    check = _check(artifact, engine, bundle.golden_inputs(), row, tolerance)
    if not check.passed:
        raise GateError(
            f"the self-test failed, this device doesn't give the bundle's answers: {check.off_by} on {engine.name} "
            f"{engine.provider}, where {check.ood_tolerance if check.logits_passed else tolerance:g} is accepted"
        )
    return check


def reference(bundle: Bundle, choice: Choice) -> tuple[Expected, float, str]:
    """(the golden answers that a choice is compared with, the tolerance, what to say where they are another engine's)

    Raises BundleError where the bundle holds none of the artifact.
    """
    return _reference(bundle, _expected(bundle), choice)


def _check(
    artifact: Artifact, engine: Engine, inputs: npt.NDArray[np.uint8], row: Expected, tolerance: float
) -> GoldenCheck:
    if len(row.logits) != len(inputs):
        raise BundleError(f"the bundle holds {len(inputs)} golden inputs and {len(row.logits)} answers to them")
    # One at a time, as a device meets them: a batch may take other kernels.
    found = Outputs.joined(engine.run(picture[None]) for picture in inputs)
    logits, ood = found.logits, found.ood
    if (ood is None) != (row.ood is None):
        alone = "the network alone has" if row.ood is None else "the golden values alone have"
        raise BundleError(f"golden values must be of every output, {alone} ood: {artifact.file} on {engine.name}")
    return GoldenCheck(
        artifact=artifact.file,
        precision=engine.precision,
        engine=engine.name,
        provider=engine.provider,
        device=engine.device,
        pictures=len(inputs),
        max_difference=float(np.abs(logits - row.logits).max()),
        tolerance=tolerance,
        label_flips=int((logits.argmax(axis=1) != row.logits.argmax(axis=1)).sum()),
        reference=row.engine,
        ood_difference=None if ood is None or row.ood is None else float(np.abs(ood - row.ood).max()),
        # As much wider than the row's own as that of the logits: what ood is measured in, each bundle decides.
        ood_tolerance=row.ood_tolerance * tolerance / row.tolerance,
    )


def _expected(bundle: Bundle) -> dict[tuple[str, str, str], Expected]:
    """The bundle's golden answers by artifact, engine and precision that is computed."""
    stored = {artifact.file: artifact.precision for artifact in bundle.artifacts}
    rows = bundle.golden_expected()
    return {(row.artifact, row.engine, row.precision or stored.get(row.artifact, "")): row for row in rows}


def _reference(
    bundle: Bundle, expected: Mapping[tuple[str, str, str], Expected], choice: Choice
) -> tuple[Expected, float, str]:
    """(the answers to compare with, the tolerance, what to say where they aren't this engine's in this precision)"""
    file = choice.artifact.file
    own = expected.get((file, choice.engine, choice.precision))
    # Where OpenVINO has no integer kernels, what it answered in integers elsewhere is another engine's answer.
    if own is not None and not without_integers(choice.engine, choice.precision):
        return own, own.tolerance, ""
    kinds = [(file, name, choice.artifact.precision) for name in (choice.engine, *ORDER)]
    rows = [expected[kind] for kind in kinds if kind in expected]
    if not rows:
        raise BundleError(f"the bundle holds no golden vectors of {file} for {choice.engine}: {bundle.path}")
    row = rows[0]
    tolerance = max(row.tolerance, WIDER_TOLERANCES[choice.precision])
    what = f"{file} in {choice.precision} on {choice.engine}"
    theirs = f"those of {row.engine} in {choice.artifact.precision}"
    return (
        row,
        tolerance,
        f"{what}: the bundle holds no golden vectors for it; compared with {theirs}, at {tolerance:g}",
    )
