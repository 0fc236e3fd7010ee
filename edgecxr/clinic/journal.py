"""What happened to one film: a file of JSON lines that a kill at any byte leaves readable, and what they add up to.

    received   the film is in the spool, before its sender is told so
    scoring    an attempt to score it begins
    scored     it has its answer, and its result objects are in the spool
    sending    a result goes to a target from here on: until the next line of the two, the target may have it
    sent       the target said that it has it
    refused    the target said that it hasn't
    unanswered nobody knows
    given_up   no more attempts
    requeued   somebody wants it tried again

An object is sent a second time only where the first has no answer, and each such time is counted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edgecxr.records.journal import whole_lines

MAX_LINE = 1 << 20  # bytes; a record of a thousand labels has a tenth of it

Stage = Literal["received", "scored", "done", "failed"]
Way = tuple[str, str]  # a result's SOP Instance UID, and the target that it goes to as AET@HOST:PORT


@dataclass
class History:
    """What a film's lines add up to."""

    uid: str = ""  # of the film
    digest: str = ""  # SHA-256 of its transfer syntax and its data set, as they were received
    attempts: int = 0  # at scoring it, without an answer
    status: str | None = None  # of its prediction
    code: str | None = None  # why it was rejected, or has no result
    results: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    sent: set[Way] = field(default_factory=set)
    under_way: set[Way] = field(default_factory=set)  # sent, and not answered
    refusals: Counter[Way] = field(default_factory=Counter)
    given_up: set[Way] = field(default_factory=set)
    failed: bool = False  # it can't have a result
    again: int = 0  # times that an object was sent whose earlier sending wasn't answered

    @property
    def waiting(self) -> list[Way]:
        """What is still to be sent."""
        ways = [(result, target) for target in self.targets for result in self.results]
        return [way for way in ways if way not in self.sent and way not in self.given_up]

    @property
    def stage(self) -> Stage:
        if self.failed or (self.given_up and not self.waiting):
            return "failed"
        if self.status is None:
            return "received"
        return "scored" if self.waiting else "done"

    def add(self, line: dict[str, Any]) -> None:
        """Go on by a line; raises KeyError, TypeError or ValueError for what is none."""
        event = line["event"]
        way = (line["result"], line["target"]) if "result" in line else ("", "")
        if event == "received":
            self.uid, self.digest = line["uid"], line["digest"]
        elif event == "scoring":
            self.attempts += 1
        elif event == "scored":
            self.attempts, self.status, self.code = 0, line["status"], line["code"]
            self.results, self.targets = tuple(line["results"]), tuple(line["targets"])
        elif event == "sending":
            self.again += way in self.under_way
            self.under_way.add(way)
        elif event == "sent":
            self.under_way.discard(way)
            self.sent.add(way)
        elif event == "refused":
            self.under_way.discard(way)
            self.refusals[way] += 1
        elif event == "unanswered":
            self.refusals[way] += 1
        elif event == "given_up":
            if "result" in line:
                self.given_up.add(way)
            else:
                self.failed, self.code = True, line["code"]
        elif event == "requeued":
            self.failed, self.attempts = False, 0
            self.given_up.clear()
            self.refusals.clear()
            if self.status is not None:
                self.targets = tuple(line["targets"])
        else:
            raise ValueError(event)


def read(path: Path) -> tuple[History, int]:
    """What the whole lines of a journal add up to, and their bytes; raises OSError, or ValueError where it is none."""
    history, size = History(), 0
    for line in whole_lines(path, MAX_LINE):
        try:
            history.add(json.loads(line))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(str(error)) from None
        size += len(line)
    if not history.uid:
        raise ValueError("no film")
    return history, size


def repair(path: Path) -> History:
    """As `read`, and a torn last line is cut off; raises OSError or ValueError."""
    history, size = read(path)
    if path.stat().st_size != size:
        os.truncate(path, size)
    return history


def append(path: Path, history: History, event: str, *, sync: bool = False, **facts: Any) -> None:
    """Write a line, and go on by it; with `sync` it is on the disk, and so are those before it. Raises OSError."""
    line = {"event": event, "time_utc": now(), **facts}
    _write(path, (json.dumps(line) + "\n").encode("ascii"), sync)
    history.add(line)


def now() -> str:
    """UTC, as records have it; told to people, and never reckoned with: clocks jump."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def add_up(histories: Iterable[History]) -> dict[str, Any]:
    """Numbers over films: stages, statuses, reasons, and for each target what waits, was sent, was given up."""
    stages: Counter[str] = Counter()
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    targets: dict[str, Counter[str]] = {}
    again = 0
    for history in histories:
        stages[history.stage] += 1
        again += history.again
        if history.status is not None:
            statuses[history.status] += 1
        if history.code is not None:
            reasons[history.code] += 1
        for kind, ways in _kinds(history):
            for _, target in ways:
                targets.setdefault(target, Counter(waiting=0, sent=0, given_up=0))[kind] += 1
    return {
        "films": {stage: stages[stage] for stage in ("received", "scored", "done", "failed")},
        "statuses": dict(statuses),
        "reasons": dict(reasons),
        "targets": {target: dict(counts) for target, counts in sorted(targets.items())},
        "sent_again": again,
    }


def _kinds(history: History) -> Sequence[tuple[str, Iterable[Way]]]:
    return (("waiting", history.waiting), ("sent", history.sent), ("given_up", history.given_up))


def _write(path: Path, line: bytes, sync: bool) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = os.open(path, flags, 0o600)
    try:
        size, written = os.fstat(file).st_size, 0
        try:
            while written < len(line):  # a nearly full disk takes a part
                written += os.write(file, line[written:])
        except OSError:
            if written:
                os.ftruncate(file, size)
            raise
        if sync:
            os.fsync(file)
    finally:
        os.close(file)
