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
from edgecxr_export.labelled import CHOOSING, DECIDING, Labelled
from edgecxr_export.parity import compare as parities

KERAS_BATCH = 8  # TensorFlow keeps what a batch took: at 299 px 1.4 GB for 32 pictures, 0.3 GB for 8


@dataclass(frozen=True)
class Measured:
    """An artifact and what it answers, split by split."""

    artifact: NetworkFile
    logits: Mapping[str, npt.NDArray[np.float32]]
    parity: Mapping[str, parities.Parity]
    evidence: parities.Evidence
    ood: Mapping[str, npt.NDArray[np.float32] | None]  # (N,) on test and each half of dev

    @property
    def test(self) -> parities.Parity:
        """On the test split, which is reported."""
        return self.parity["test"]

    @property
    def deciding(self) -> parities.Parity:
        """On the half of dev that decides."""
        return self.parity[DECIDING]


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

    def of(self, part: str) -> Logits:
        """Of dev, test, or a half of dev."""
        if part in (CHOOSING, DECIDING):
            places = self._data.halves[part]
            files = tuple(self.dev.files[place] for place in places)
            return Logits(files, self.dev.classes[places], self.dev.logits[places])
        return self.dev if part == "dev" else self.test

    def elsewhere(self, other: Labelled) -> Logits:
        """Of pictures that aren't the run's."""
        examples = other.dataset.examples
        return Logits(
            tuple(example.file for example in examples),
            np.array([other.dataset.labels.index(example.label) for example in examples]),
            self._predict(other.pictures),
        )

    def _recompute(self, split: str, places: Sequence[int]) -> npt.NDArray[np.float32]:
        rows = self._data.rows(split)
        return self._predict(self._data.pictures[np.asarray([rows[place] for place in places])])

    def _predict(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.asarray(self.model.predict(pictures[..., None], batch_size=KERAS_BATCH, verbose=0), dtype=np.float32)


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
        self._scored: dict[tuple[str, str], tuple[NetworkFile, parities.Answers, parities.Parity]] = {}

    def of(self, artifact: NetworkFile, part: str) -> tuple[parities.Answers, parities.Parity]:
        """(the answers to the pictures of test or a half of dev, how they compare)"""
        if (artifact.file, part) not in self._scored or self._scored[artifact.file, part][0] is not artifact:
            rows, groups = self._data.rows(part), self._data.groups(part)
            answers, found = self._compared(artifact, part, self._data.pictures, rows, self._reference.of(part), groups)
            self._scored[artifact.file, part] = (artifact, answers, found)
        return self._scored[artifact.file, part][1:]

    def elsewhere(self, artifact: NetworkFile, name: str, other: Labelled, reference: Logits) -> parities.Parity:
        """On pictures that aren't the run's, whose `Reference.elsewhere` is `reference`."""
        examples = other.dataset.examples
        groups = [example.group for example in examples]
        return self._compared(artifact, name, other.pictures, range(len(examples)), reference, groups)[1]

    def _compared(
        self,
        artifact: NetworkFile,
        part: str,
        pictures: npt.NDArray[np.uint8],
        rows: Sequence[int],
        reference: Logits,
        groups: Sequence[str],
    ) -> tuple[parities.Answers, parities.Parity]:
        with bar(self._console, f"{artifact.file} on {part}") as advance:
            answers = parities.run_answers(artifact.engine, pictures, rows, lambda done: advance(done, len(rows)))
        return answers, parities.compare(artifact.engine, part, reference, answers.logits, self._temperature, groups)

    def final(self, artifact: NetworkFile) -> Measured:
        """The artifact on dev and on the whole test split; said on the console."""
        answers = {part: self.of(artifact, part) for part in (CHOOSING, DECIDING, "test")}
        evidence = parities.compare_evidence(
            artifact.engine, evidence_inputs(self._data), artifact.bias, self._evidence
        )
        self._console.print(f"{artifact.file}: {len(artifact.model) / 1e6:.1f} MB", markup=False)
        for part in (DECIDING, "test"):
            self._console.print(f"  {said(answers[part][1])}", markup=False, highlight=False)
        of_test = answers["test"][0].logits
        of_dev = np.empty((len(self._reference.dev.files), of_test.shape[1]), dtype=np.float32)
        for part, places in self._data.halves.items():
            of_dev[places] = answers[part][0].logits
        return Measured(
            artifact,
            {"dev": of_dev, "test": of_test},
            {part: answer[1] for part, answer in answers.items()},
            evidence,
            {part: answer[0].ood for part, answer in answers.items()},
        )


def said(found: parities.Parity) -> str:
    """How an artifact compares, in a line for the console, with 95 % intervals."""
    low, high = found.flips_interval95
    drop = f"{-100 * found.drop:+.2f} points"
    if found.drop_interval95:
        least, most = (-100 * bound for bound in found.drop_interval95)
        drop += f", {most:+.2f} to {least:+.2f}"
    moved = f"{found.p99_logits:.1%} of their spread"
    if found.p99_logits_interval95:
        moved += f", {found.p99_logits_interval95[0]:.1%}–{found.p99_logits_interval95[1]:.1%}"
    return (
        f"on {found.pictures} pictures of {found.split} {found.flips} flips ({found.flips / found.pictures:.2%}, "
        f"{low:.2%}–{high:.2%}), accuracy {found.accuracy:.2%} ({drop}), logits off in the 99th percentile ({moved}), "
        f"|Δp| at most {found.max_dp:.2g}"
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
