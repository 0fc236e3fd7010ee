"""What the lines of a film's journal add up to, wherever they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecxr.clinic import journal
from edgecxr.clinic.journal import History

WAY = {"result": "1.2.7", "target": "A@a:1"}


def lines(*events: dict[str, object]) -> History:
    history = History()
    for event in events:
        history.add(event)
    return history


RECEIVED: dict[str, object] = {"event": "received", "uid": "1.2", "digest": "d"}
SCORED: dict[str, object] = {
    "event": "scored",
    "status": "scored",
    "code": None,
    "results": ["1.2.7"],
    "targets": ["A@a:1", "B@b:2"],
}


def test_a_film_goes_from_stage_to_stage() -> None:
    assert lines(RECEIVED).stage == "received"
    assert lines(RECEIVED, {"event": "scoring"}).stage == "received"
    history = lines(RECEIVED, {"event": "scoring"}, SCORED)
    assert history.stage == "scored"
    assert history.waiting == [("1.2.7", "A@a:1"), ("1.2.7", "B@b:2")]
    history.add({"event": "sent", **WAY})
    assert history.waiting == [("1.2.7", "B@b:2")]
    history.add({"event": "sent", **WAY, "target": "B@b:2"})
    assert history.stage == "done"


def test_a_film_without_results_is_done_once_it_has_its_answer() -> None:
    rejected = {**SCORED, "status": "rejected", "code": "not_frontal", "results": [], "targets": []}
    assert lines(RECEIVED, rejected).stage == "done"


def test_what_a_target_refused_fails_once_the_others_have_theirs() -> None:
    history = lines(RECEIVED, SCORED, {"event": "refused", **WAY}, {"event": "given_up", **WAY})
    assert history.stage == "scored"
    history.add({"event": "sent", **WAY, "target": "B@b:2"})
    assert history.stage == "failed"
    history.add({"event": "requeued", "targets": ["A@a:1", "B@b:2"]})
    assert history.waiting == [("1.2.7", "A@a:1")]  # and not again to who has it
    assert history.refusals.total() == 0


def test_an_object_is_counted_as_sent_again_only_where_its_first_sending_has_no_answer() -> None:
    sending: dict[str, object] = {"event": "sending", **WAY}
    assert lines(RECEIVED, SCORED, sending, {"event": "refused", **WAY}, sending).again == 0
    assert lines(RECEIVED, SCORED, sending, sending).again == 1  # killed in between
    assert lines(RECEIVED, SCORED, sending, {"event": "unanswered", **WAY}, sending).again == 1


def test_a_journal_cut_at_any_byte_is_read_up_to_its_last_whole_line_and_goes_on(tmp_path: Path) -> None:
    path, history = tmp_path / "journal.jsonl", History()
    journal.append(path, history, "received", uid="1.2", digest="d")
    first = path.stat().st_size
    journal.append(path, history, "scoring")
    whole = path.read_bytes()
    for end in range(first, len(whole) + 1):
        path.write_bytes(whole[:end])
        found = journal.repair(path)
        assert found.attempts == (1 if end == len(whole) else 0)
        journal.append(path, found, "scoring")
        assert journal.read(path)[0].attempts == found.attempts
    path.write_bytes(whole[: first - 1])
    with pytest.raises(ValueError, match="no film"):
        journal.read(path)


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for content in (b"", b"[]\n", b'"text"\n', b'{"event": "dancing"}\n', b"{}\n", b"\0\0\n"):
        path.write_bytes(content)
        with pytest.raises(ValueError):
            journal.read(path)


def test_numbers_over_films() -> None:
    found = journal.add_up([lines(RECEIVED), lines(RECEIVED, SCORED, {"event": "sent", **WAY})])
    assert found["films"] == {"received": 1, "scored": 1, "done": 0, "failed": 0}
    assert found["targets"]["A@a:1"] == {"waiting": 0, "sent": 1, "given_up": 0}
    assert found["targets"]["B@b:2"] == {"waiting": 1, "sent": 0, "given_up": 0}
    assert json.dumps(found)
