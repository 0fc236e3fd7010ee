"""A folder of results: a DICOM file for each object, named by its SOP Instance UID, never in the place of another."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from edgecxr.clinic.report import ResultObject, check_extra, dicom_results, result_uid
from edgecxr.errors import PictureRejected, ResultRefused, UsageError
from edgecxr.pictures import files
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session
from edgecxr.system import storage

MAX_KEPT = 10  # complaints that are kept to be shown


@dataclass
class Outbox:
    """Where the results of a run go; `add` each film, then `close`. For one thread."""

    folder: Path
    session: Session
    heat_map: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)  # the first ones; each names a file as the records do

    @property
    def incomplete(self) -> int:
        """How many films have no result here of those that should."""
        return self.counts["refused"] + self.counts["another"]

    def add(self, path: Path, prediction: Prediction, *, earlier: bool = False) -> None:
        """Write what tells the prediction for the file at `path`, which is read again and must be the one that was
        scored; of an `earlier` run's, only what is missing.

        Counts `written`, `there` (the same file already), `not_dicom`, `refused` (no result can be bound to the film)
        and `another` (a file of this name that holds something else, which is kept). Raises UsageError or StorageError
        where nothing can be written.
        """
        if prediction.status == "rejected":
            return
        if prediction.rendering is None:
            self.counts["not_dicom"] += 1
            return
        try:
            data = files.read(path)
            if earlier and self._all_there(data, prediction):
                self.counts["there"] += 1
                return
            evidence = pipeline.explain(self.session, data)[1] if self.heat_map else None
            results = dicom_results(data, prediction, self.session.bundle, evidence=evidence)
        except (ResultRefused, PictureRejected, UsageError) as refused:
            self.counts["refused"] += 1
            self._complain(prediction, str(refused))
            return
        self.counts[self._put(results, prediction)] += 1

    def summary(self) -> dict[str, int]:
        return {what: self.counts[what] for what in ("written", "there", "not_dicom", "refused", "another")}

    def close(self) -> None:
        """Have the names of the files on the disk."""
        storage.sync_folder(self.folder)

    def _all_there(self, data: bytes, prediction: Prediction) -> bool:
        from edgecxr.clinic import source

        film, wanted = source.read(data).sop_instance, ["report"]
        if self.heat_map and prediction.label is not None:
            wanted.append("evidence")
        return all(self._place(result_uid(film, self.session.bundle.digest, what)).exists() for what in wanted)

    def _place(self, uid: str) -> Path:
        return self.folder / f"{uid}.dcm"  # a UID of our own: digits and dots

    def _put(self, results: list[ResultObject], prediction: Prediction) -> str:
        outcome = "there"
        for result in results:
            place = self._place(result.sop_instance_uid)
            if storage.write_new(place, result.data):
                outcome = "written"
            elif place.read_bytes() != result.data:
                self._complain(prediction, f"another result stands there under its name: {place.name}")
                return "another"
        return outcome

    def _complain(self, prediction: Prediction, why: str) -> None:
        if len(self.complaints) < MAX_KEPT:
            self.complaints.append(f"{prediction.path}: {why}")


def open_outbox(folder: Path, session: Session, *, heat_map: bool = False) -> Outbox:
    """The outbox at `folder`; raises UnavailableError without the extra, before anything is scored."""
    check_extra()
    return Outbox(folder, session, heat_map)


def check(folder: Path) -> None:
    """Make the folder, for its owner alone, if it isn't there; raises UsageError or StorageError where it can't be
    written."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(f"the folder of results can't be made ({error.strerror}): {folder}") from None
    storage.check_writable(folder / "2.25.0.dcm")
