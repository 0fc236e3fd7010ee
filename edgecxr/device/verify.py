"""Is the bundle whole, and is its answer still right on this device?"""

from __future__ import annotations

from dataclasses import dataclass

from edgecxr.bundle import Bundle
from edgecxr.device.explain import diagnose, float_difference
from edgecxr.device.golden import WIDER_TOLERANCES, GoldenCheck, _check, _expected, _reference
from edgecxr.engines.select import ANYTHING, INTEGERS, Asked, choices, open_engine
from edgecxr.errors import UnavailableError


@dataclass(frozen=True)
class Verification:
    """What `verify` found; `passed` where every hash is right and every golden vector within its tolerance."""

    files: int
    bytes: int
    golden: tuple[GoldenCheck, ...]
    not_run: tuple[str, ...]  # artifacts that no engine here can run, each with the reason
    notes: tuple[str, ...]  # answers that were compared with another engine's, at a wider tolerance
    diagnosis: str = ""  # where it didn't pass, why: one sentence

    @property
    def passed(self) -> bool:
        return bool(self.golden) and all(check.passed for check in self.golden)


def verify(bundle: Bundle, asked: Asked = ANYTHING, *, threads: int = 1) -> Verification:
    """Hash every file, then run the golden inputs through every artifact on every installed engine on one device.

    An engine or precision that is asked for by name is the only one. Raises BundleError at the first wrong hash,
    UnavailableError where nothing can be run.
    """
    for file in bundle.files:
        bundle.read(file)
    expected = _expected(bundle)
    inputs = bundle.golden_inputs()
    chosen, not_run = choices(bundle, asked)
    if not chosen:
        raise UnavailableError(f"no artifact of the bundle can be run here: {'; '.join(not_run)}")
    golden: list[GoldenCheck] = []
    notes: list[str] = []
    in_float: dict[str, float | None] = {}
    for choice in chosen:
        row, tolerance, note = _reference(bundle, expected, choice)
        opened = open_engine(bundle, choice, threads)
        golden.append(_check(choice.artifact, opened, inputs, row, tolerance))
        if not golden[-1].passed and choice.artifact.format == "onnx" and choice.precision in INTEGERS:
            in_float[choice.artifact.file] = float_difference(bundle.read(choice.artifact.file), inputs, row.logits)
        if note:
            notes.append(note)
    size = sum(length for _, length in bundle.files.values())
    diagnosis = diagnose(golden, in_float, WIDER_TOLERANCES["int8"])
    return Verification(len(bundle.files) + 1, size, tuple(golden), not_run, tuple(notes), diagnosis)
