"""Is the bundle whole, and is its answer still right on this device?

Integer kernels saturate on some CPUs, providers fall back, drivers differ: the golden vectors find that on the spot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgecxr.bundle import Artifact, Bundle
from edgecxr.engines import ort
from edgecxr.engines.select import choose_device, open_engine
from edgecxr.errors import BundleError, UnavailableError


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

    @property
    def passed(self) -> bool:
        # A NaN compares as not passed.
        return self.max_difference <= self.tolerance


@dataclass(frozen=True)
class Verification:
    """What `verify` found; `passed` where every hash is right and every golden vector within its tolerance."""

    files: int
    bytes: int
    golden: tuple[GoldenCheck, ...]
    not_run: tuple[str, ...]  # artifacts that no engine here can run, each with the reason

    @property
    def passed(self) -> bool:
        return bool(self.golden) and all(check.passed for check in self.golden)


def verify(bundle: Bundle, *, device: str = "auto", precision: str = "auto", threads: int = 1) -> Verification:
    """Hash every file, then run the golden inputs through every artifact (or those of one precision) on `device`.

    Raises BundleError at the first wrong hash, UnavailableError where nothing can be run.
    """
    for file in bundle.files:
        bundle.read(file)
    expected = {(row.artifact, row.engine): row for row in bundle.golden_expected()}
    inputs = bundle.golden_inputs()
    available = ort.available_devices()
    golden: list[GoldenCheck] = []
    not_run: list[str] = []
    for artifact in _chosen(bundle, precision):
        chosen = choose_device(bundle, device, artifact.precision, available)
        if artifact.format != "onnx":
            not_run.append(f"{artifact.file}: this version has no engine for {artifact.format}")
            continue
        if artifact.precision == "int8" and chosen == "cuda":
            not_run.append(f"{artifact.file}: int8 artifacts are for CPUs")
            continue
        row = expected.get((artifact.file, ort.NAME))
        if row is None:
            raise BundleError(f"the bundle holds no golden vectors of {artifact.file} for {ort.NAME}: {bundle.path}")
        if len(row.logits) != len(inputs):
            raise BundleError(f"the bundle holds {len(inputs)} golden inputs and {len(row.logits)} answers to them")
        engine = open_engine(bundle, artifact, chosen, threads)
        # One at a time, as a device meets them: a batch may take other kernels.
        logits = np.concatenate([engine.run(picture[None]) for picture in inputs])
        golden.append(
            GoldenCheck(
                artifact=artifact.file,
                precision=artifact.precision,
                engine=engine.name,
                provider=engine.provider,
                device=engine.device,
                pictures=len(inputs),
                max_difference=float(np.abs(logits - row.logits).max()),
                tolerance=row.tolerance,
                label_flips=int((logits.argmax(axis=1) != row.logits.argmax(axis=1)).sum()),
            )
        )
    if not golden:
        raise UnavailableError(f"no artifact of the bundle can be run here: {'; '.join(not_run)}")
    size = sum(length for _, length in bundle.files.values())
    return Verification(files=len(bundle.files) + 1, bytes=size, golden=tuple(golden), not_run=tuple(not_run))


def _chosen(bundle: Bundle, precision: str) -> tuple[Artifact, ...]:
    chosen = tuple(a for a in bundle.artifacts if precision in ("auto", a.precision))
    if not chosen:
        held = ", ".join(artifact.precision for artifact in bundle.artifacts)
        raise UnavailableError(f"the bundle holds no {precision} artifact, only: {held}")
    return chosen
