"""What waits in the spool is scored, and its results are kept there before anybody is told."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edgecxr.clinic import spool
from edgecxr.clinic.report import ResultObject, dicom_results
from edgecxr.clinic.spool import Entry
from edgecxr.errors import ResultRefused
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session
from edgecxr.system.storage import sync_folder

log = logging.getLogger(__name__)  # names no picture

# That ended the program, or the machine. Each time the others go first; then the film is set aside. Not fewer: whoever
# ends the program may have had another reason.
MAX_ATTEMPTS = 20


def score(session: Session, entry: Entry, targets: Sequence[str], *, heat_map: bool = False) -> None:
    """Score a film, and keep its results and its record; raises OSError where they can't be kept.

    A film of which no result can be made is given up, with the reason in its journal.
    """
    if entry.history.attempts >= MAX_ATTEMPTS and not entry.begun:
        _give_up(entry, "ended_the_program", f"{MAX_ATTEMPTS} attempts to score the film ended the program")
        return
    if not entry.begun:  # a disk that stays full ends no program, however often results can't be kept
        entry.note("scoring")
        entry.begun = True
    data = entry.film.read_bytes()
    try:
        prediction, results = answer(session, data, heat_map=heat_map)
    except ResultRefused as refused:
        _give_up(entry, "no_result", str(refused))
        return
    for result in results:
        spool.write(entry.result(result.sop_instance_uid), result.data)
    sync_folder(entry.folder)
    uids = [result.sop_instance_uid for result in results]
    entry.note(
        "scored",
        sync=True,
        status=prediction.status,
        code=prediction.error_code,
        results=uids,
        targets=list(targets) if uids else [],
        record=prediction.without_name(0).to_record(session.bundle.labels),
    )
    log.info("film %s %s%s", entry.name, prediction.status, f": {prediction.error_code}" * bool(prediction.error_code))


def answer(session: Session, data: bytes, *, heat_map: bool) -> tuple[Prediction, list[ResultObject]]:
    """The prediction for a film's bytes and the objects that tell it; raises ResultRefused where none can."""
    if heat_map:
        prediction, evidence = pipeline.explain(session, data)
    else:
        (prediction,), evidence = pipeline.score(session, [data]), None
    return prediction, dicom_results(data, prediction, session.bundle, evidence=evidence)


def _give_up(entry: Entry, code: str, reason: str) -> None:
    log.error("film %s has no result: %s", entry.name, reason)
    entry.note("given_up", sync=True, code=code, reason=reason)
