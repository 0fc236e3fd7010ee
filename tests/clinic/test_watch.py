"""A folder whose files are scored as they arrive: each once it is whole, and once."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from clinic.ends import wait_for
from edgecxr.clinic import watch
from edgecxr.clinic.watch import GIVEN_UP_SECONDS, STILL_SECONDS, Arrivals
from edgecxr.errors import UsageError
from edgecxr.records import output as recording
from edgecxr.records.prediction import Prediction, Provenance
from edgecxr.scoring import folder as folders
from edgecxr.scoring.session import Session
from edgecxr.system.signals import StopOnSignal

Picture = Callable[..., Path]
A = Path("a")


def answer(status: Any = "scored", look: tuple[int, int] = (1, 1)) -> Prediction:
    nobody = Provenance("", "", "", "", "", "")
    nothing = Prediction(None, None, status, None, {}, {}, None, None, None, None, None, None, nobody, "")
    return replace(nothing, bytes=look[0], mtime_ns=look[1])


def test_a_file_is_due_once_it_stood_still() -> None:
    arrivals = Arrivals({})
    arrivals.see(A, (1, 1), 0.0)
    assert arrivals.due(STILL_SECONDS - 0.1) == []
    arrivals.see(A, (2, 1), 1.0)  # it grows
    assert arrivals.due(STILL_SECONDS + 0.9) == []
    arrivals.see(A, (2, 2), 2.0)  # its time moves
    assert arrivals.due(STILL_SECONDS + 1.9) == []
    assert arrivals.due(STILL_SECONDS + 2.0) == [A]
    assert arrivals.due(STILL_SECONDS + 9.0) == []  # it is in hand
    assert arrivals.answered(A, answer(look=(2, 2))) is not None
    arrivals.see(A, (2, 2), 20.0)
    assert arrivals.coming == []


def test_a_file_that_changed_while_it_was_scored_is_scored_again() -> None:
    arrivals = Arrivals({})
    arrivals.see(A, (1, 1), 0.0)
    assert arrivals.due(5.0) == [A]
    arrivals.see(A, (2, 2), 5.0)
    assert arrivals.answered(A, answer(look=(1, 1))) is None
    assert arrivals.due(5.0 + STILL_SECONDS) == [A]


def test_a_file_that_does_not_decode_is_waited_for_and_then_recorded_as_it_was_answered() -> None:
    arrivals = Arrivals({})
    arrivals.see(A, (1, 1), 0.0)
    assert arrivals.due(3.0) == [A]
    rejected = answer("rejected")
    assert arrivals.answered(A, rejected) is None
    assert arrivals.due(10.0) == []  # and isn't decoded again as it is
    assert arrivals.given_up(GIVEN_UP_SECONDS - 1) == []
    arrivals.see(A, (9, 9), 30.0)  # the copy goes on
    assert arrivals.given_up(GIVEN_UP_SECONDS + 1) == []
    assert arrivals.due(40.0) == [A]
    arrivals.answered(A, rejected)
    assert arrivals.given_up(30.0 + GIVEN_UP_SECONDS) == [(A, rejected)]
    assert arrivals.given_up(1e9) == []


def test_a_file_that_goes_away_is_forgotten_and_one_that_is_known_is_passed_over() -> None:
    arrivals = Arrivals({A: (1, 1)})
    arrivals.see(A, (1, 1), 0.0)
    assert arrivals.coming == []
    arrivals.see(A, (1, 2), 0.0)
    assert arrivals.due(5.0) == [A]
    arrivals.see(A, None, 6.0)
    assert arrivals.answered(A, answer()) is None
    assert arrivals.coming == []


@contextmanager
def watching(
    session: Session, folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> Iterator[folders.Job]:
    """The folder, watched by a thread; ended as a signal would."""

    class Told(StopOnSignal):
        """A thread can't have signals of its own."""

        def __enter__(self) -> StopOnSignal:
            told.append(self)
            return self

        def __exit__(self, *_: object) -> None:
            pass

    told: list[StopOnSignal] = []
    monkeypatch.setattr(watch, "StopOnSignal", Told)
    place = recording.check(output, overwrite=False, going_on=True)
    inputs = watch.find(folder, place, own=options.get("own"))
    job = folders.prepare(session, inputs, place, folders.Options(options.pop("name_by", "path")), going_on=True)
    thread = threading.Thread(target=watch.watch, args=(job, inputs, folder, place), kwargs=options)
    thread.start()
    try:
        wait_for(lambda: told)
        yield job
    finally:
        told[0].signal = 15
        thread.join(30)
        assert not thread.is_alive()


def names(output: Path) -> list[str]:
    return [json.loads(line)["path"] for line in output.read_bytes().splitlines()] if output.exists() else []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "STILL_SECONDS", 0.3)
    monkeypatch.setattr(watch, "GIVEN_UP_SECONDS", 2.0)
    monkeypatch.setattr(watch, "TICK_SECONDS", 0.1)


@pytest.mark.parametrize("poll", [False, True])
def test_what_arrives_is_scored_once_and_a_restart_doubles_nothing(
    session: Session, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, poll: bool
) -> None:
    inbox, output = tmp_path / "in", tmp_path / "out.jsonl"
    first = picture("in/a.png", seed=1)
    with watching(session, inbox, output, monkeypatch, poll=poll):
        wait_for(lambda: names(output) == [str(first)])
        second = picture("in/b.png", seed=2)
        moved = picture("elsewhere/sub/c.png", seed=3).parent.parent
        moved.rename(inbox / "moved")  # a folder at once
        whole = picture("d.png", seed=4).read_bytes()
        half = inbox / "d.png"
        half.write_bytes(whole[:900])
        wait_for(lambda: len(names(output)) == 3)
        half.write_bytes(whole)
        wait_for(lambda: len(names(output)) == 4)
        (inbox / "SHA256SUMS.part").write_bytes(b"no picture")
        wait_for(lambda: len(names(output)) == 5)
    expected = [str(p) for p in (first, second, inbox / "moved" / "sub" / "c.png", half, inbox / "SHA256SUMS.part")]
    assert sorted(names(output)) == sorted(expected)
    statuses = {json.loads(line)["path"]: json.loads(line)["status"] for line in output.read_bytes().splitlines()}
    assert statuses[str(half)] == "scored"
    assert statuses[expected[-1]] == "rejected"
    with watching(session, inbox, output, monkeypatch, poll=poll):
        last = picture("in/z.png", seed=9)
        wait_for(lambda: str(last) in names(output))
    assert sorted(names(output)) == sorted([*expected, str(last)])


def test_what_the_run_writes_itself_is_no_input_and_is_told_of_once(
    session: Session, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    inbox, told = tmp_path / "in", list[Path]()
    picture("in/results/a.png", seed=1)
    wanted = picture("in/b.png", seed=2)
    output = inbox / "out.jsonl"
    with watching(session, inbox, output, monkeypatch, own=inbox / "results", tell=lambda path, _: told.append(path)):
        wait_for(lambda: names(output) == [str(wanted)])
        picture("in/results/c.png", seed=3)
        second = picture("in/d.png", seed=4)
        wait_for(lambda: str(second) in names(output))
        time.sleep(0.6)
    assert names(output) == [str(wanted), str(second)]
    assert told == [wanted, second]


def test_names_can_stay_out_of_it(
    session: Session, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    picture("in/CANARY.png")
    output = tmp_path / "out.jsonl"
    for _ in range(2):
        with watching(session, tmp_path / "in", output, monkeypatch, name_by="hash"):
            wait_for(lambda: len(names(output)) == 1)
            time.sleep(0.6)
    assert len(names(output)) == 1
    assert b"CANARY" not in output.read_bytes()


def test_a_torn_last_line_is_made_again(
    session: Session, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    for name in ("a", "b"):
        picture(f"in/{name}.png", seed=ord(name))
    output = tmp_path / "out.jsonl"
    with watching(session, tmp_path / "in", output, monkeypatch):
        wait_for(lambda: len(names(output)) == 2)
    whole = names(output)
    os.truncate(output, output.stat().st_size - 5)
    with watching(session, tmp_path / "in", output, monkeypatch):
        wait_for(lambda: output.read_bytes().endswith(b"}\n") and len(names(output)) == 2)
    assert names(output) == whole


@pytest.mark.parametrize(
    "arguments",
    [
        ["in", "--watch"],
        ["in", "--watch", "-o", "-"],
        ["in", "--watch", "-o", "out.csv"],
        ["in", "in", "--watch", "-o", "out.jsonl"],
        ["in", "--watch", "-o", "out.jsonl", "--overwrite"],
        ["in", "--watch", "-o", "out.jsonl", "--limit", "3"],
        ["in", "--poll", "-o", "out.jsonl"],
        ["in/a.png", "--watch", "-o", "out.jsonl"],
        ["nowhere", "--watch", "-o", "out.jsonl"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_watched_is_said(
    edgecxr: Callable[..., CompletedProcess[str]],
    picture: Picture,
    tmp_path: Path,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    picture("in/a.png")
    monkeypatch.chdir(tmp_path)
    done = edgecxr("infer", *arguments, "-m", tiny_bundle)
    assert done.returncode == 2
    assert done.stderr.startswith("edgecxr: ")
    assert done.stderr.count("\n") == 1


def test_an_empty_folder_can_be_watched_and_a_file_cannot(tmp_path: Path) -> None:
    place = recording.check(tmp_path / "out.jsonl", overwrite=False, going_on=True)
    assert watch.find(tmp_path, place).paths == ()
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(UsageError, match="takes one folder"):
        watch.find(tmp_path / "a", place)
