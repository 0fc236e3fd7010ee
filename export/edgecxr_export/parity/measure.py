"""Every artifact against the reference: the float32 Keras model on the run's pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from edgecxr.bench import spread
from edgecxr.lab.run import Logits, Run
from edgecxr.views.terminal import progress
from edgecxr_export import labelled
from edgecxr_export.graphs.artifacts import NetworkFile
from edgecxr_export.graphs.deploy import reference_model
from edgecxr_export.labelled import Labelled
from edgecxr_export.parity import compare as parities

KERAS_BATCH = 8  # TensorFlow keeps what a batch took: at 299 px 1.4 GB for 32 pictures, 0.3 GB for 8


@dataclass(frozen=True)
class Measured:
    """An artifact and what it answers, split by split."""

    artifact: NetworkFile
    logits: Mapping[str, npt.NDArray[np.float32]]
    parity: Mapping[str, parities.Parity]
    evidence: parities.Evidence

    @property
    def final(self) -> parities.Parity:
        """On the split that decides."""
        return self.parity["test"]


class Reference:
    """The float32 Keras model and its logits on the run's pictures, checked against each other."""

    def __init__(self, run: Run, data: Labelled) -> None:
        self._run, self._data = run, data
        self.model = reference_model(run)
        stored = labelled.ordered(run.logits("dev"), data, "dev")
        self.dev, self.spot_check = parities.checked_reference(stored, lambda places: self._recompute("dev", places))

    @cached_property
    def test(self) -> Logits:
        stored = labelled.ordered(self._run.logits("test"), self._data, "test")
        if not self.spot_check["recomputed"]:
            return stored
        return replace(stored, logits=self._recompute("test", range(len(stored.files))))

    def of(self, split: str) -> Logits:
        return self.dev if split == "dev" else self.test

    def _recompute(self, split: str, places: Sequence[int]) -> npt.NDArray[np.float32]:
        rows = self._data.rows(split)
        chosen = self._data.pictures[np.asarray([rows[place] for place in places])]
        return np.asarray(self.model.predict(chosen[..., None], batch_size=KERAS_BATCH, verbose=0), dtype=np.float32)


class Comparison:
    """Answers of artifacts and how they compare, each computed once."""

    def __init__(
        self,
        reference: Reference,
        data: Labelled,
        temperature: float,
        evidence: npt.NDArray[np.float32],
        console: Console,
    ) -> None:
        """`evidence` are the reference's maps (n, h, w, K) of `evidence_inputs(data)`."""
        self._reference, self._data, self._temperature = reference, data, temperature
        self._evidence, self._console = evidence, console
        self._scored: dict[tuple[str, str], tuple[NetworkFile, npt.NDArray[np.float32], parities.Parity]] = {}

    def of(self, artifact: NetworkFile, split: str) -> tuple[npt.NDArray[np.float32], parities.Parity]:
        """(logits (N, K) of the split's pictures, how they compare)"""
        if (artifact.file, split) not in self._scored or self._scored[artifact.file, split][0] is not artifact:
            rows = self._data.rows(split)
            with bar(self._console, f"{artifact.file} on {split}") as advance:
                logits = parities.run_logits(
                    artifact.engine, self._data.pictures, rows, lambda done: advance(done, len(rows))
                )
            found = parities.compare(
                artifact.engine,
                split,
                self._reference.of(split),
                logits,
                self._temperature,
                self._data.groups(split),
            )
            self._scored[artifact.file, split] = (artifact, logits, found)
        return self._scored[artifact.file, split][1:]

    def final(self, artifact: NetworkFile) -> Measured:
        """The artifact on dev and on the whole test split; said on the console."""
        answers = {split: self.of(artifact, split) for split in ("dev", "test")}
        evidence = parities.compare_evidence(
            artifact.engine, evidence_inputs(self._data), artifact.bias, self._evidence
        )
        found = answers["test"][1]
        low, high = found.flips_interval95
        drop = f"{-100 * found.drop:+.2f} points"
        if found.drop_interval95:
            least, most = (-100 * bound for bound in found.drop_interval95)
            drop += f", {most:+.2f} to {least:+.2f}"
        self._console.print(
            f"{artifact.file}: {len(artifact.model) / 1e6:.1f} MB; on {found.pictures} pictures of test {found.flips} "
            f"flips ({found.flips / found.pictures:.2%}, {low:.2%}–{high:.2%}), |Δp| p99 {found.p99_dp:.2g}, at most "
            f"{found.max_dp:.2g}, accuracy {found.accuracy:.2%} ({drop})"
        )
        return Measured(
            artifact,
            {split: answer[0] for split, answer in answers.items()},
            {split: answer[1] for split, answer in answers.items()},
            evidence,
        )


def evidence_inputs(data: Labelled) -> npt.NDArray[np.uint8]:
    """The dev pictures (n, H, W, 1) whose evidence maps are compared."""
    rows = np.asarray(data.rows("dev"))
    chosen: npt.NDArray[np.uint8] = data.pictures[rows[spread(len(rows), parities.EVIDENCE_PICTURES)]][..., None]
    return chosen


@contextmanager
def bar(console: Console, what: str) -> Iterator[Any]:
    """A transient progress bar; yields what is to be told how many of how many are done."""
    shown: Progress = progress(console, what)
    with shown:
        task = shown.add_task("", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
