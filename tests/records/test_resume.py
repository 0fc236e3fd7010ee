"""What of the inputs is still to score, by arithmetic on names and times."""

import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecxr.errors import UsageError
from edgecxr.records import resume
from edgecxr.records.formats import to_line
from edgecxr.records.prediction import Prediction, Provenance
from edgecxr.records.resume import Finished, match

LABELS = ("a", "b")
PROVENANCE = Provenance("m 1", "cd" * 32, "onnxruntime", "CPUExecutionProvider", "cpu", "int8")


def finished(name: str, size: int | None = 1, time: int | None = 1, **changes: Any) -> Finished:
    record = Finished(name, f"{size}-{time}", size, time, "scored", "a", None)
    return record._replace(**changes)


def test_a_file_with_its_record_is_finished_and_a_changed_one_is_not() -> None:
    inputs = [Path(name) for name in "abcd"]
    records = [finished("a"), finished("b", time=2), finished("c", size=3), finished("gone")]
    found = match(inputs, records, "path", lambda _: (1, 1))
    assert found.todo == ((1, Path("b")), (2, Path("c")), (3, Path("d")))
    assert found.superseded == {1, 2}
    assert found.positions == (0, -1, -1, -1)  # what is no input any more stays
    assert found.finished == (records[0],)


@pytest.mark.parametrize(
    "record",
    [
        finished("a", None, None, status="rejected", code="unreadable"),
        finished("a", status="rejected", code="checksum_mismatch"),
    ],
)
def test_what_could_not_be_used_is_tried_again(record: Finished) -> None:
    found = match([Path("a")], [record], "path", lambda _: (1, 1))
    assert (found.todo, found.superseded) == (((0, Path("a")),), {0})


def test_a_file_that_is_damaged_for_good_is_finished() -> None:
    record = finished("a", status="rejected", code="corrupt")
    assert match([Path("a")], [record], "path", lambda _: (1, 1)).todo == ()


def test_a_file_that_is_named_twice_has_two_records() -> None:
    inputs = [Path("a"), Path("b"), Path("a")]
    assert match(inputs, [finished("a")], "path", lambda _: (1, 1)).todo == ((1, Path("b")), (2, Path("a")))
    assert match(inputs, [finished("a")] * 2, "path", lambda _: (1, 1)).todo == ((1, Path("b")),)


def test_without_names_content_tells_what_is_finished() -> None:
    hashes = {"a": "1", "b": "2", "c": "1", "d": None}
    records = [
        finished("sha256:1", 5, None, sha256="1"),
        finished("unread:4", None, None, sha256=None, status="rejected", code="unreadable"),
        finished("sha256:9", 5, None, sha256="9"),
    ]
    found = match([Path(name) for name in hashes], records, "hash", lambda path: hashes[str(path)])
    assert [position for position, _ in found.todo] == [1, 2, 3]
    assert found.superseded == {1}
    assert found.positions == (0, -1, -1)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=12),
    st.lists(st.sampled_from("abc"), max_size=8),
    st.fixed_dictionaries({name: st.none() | st.integers(0, 2) for name in "abc"}),
)
def test_every_input_is_finished_or_to_do_and_no_record_is_two_things(
    old: list[tuple[str, int]], inputs: list[str], now: dict[str, int | None]
) -> None:
    records = [finished(name, 1, time) for name, time in old]

    def identify(path: Path) -> tuple[int, int] | None:
        time = now[str(path)]
        return None if time is None else (1, time)

    found = match([Path(name) for name in inputs], records, "path", identify)
    todo, taken = [position for position, _ in found.todo], [p for p in found.positions if p >= 0]
    assert sorted(todo + taken) == list(range(len(inputs)))  # no input twice, none left out
    assert len(found.finished) == len(taken)
    assert all(found.positions[index] == -1 and records[index].name in inputs for index in found.superseded)
    # After the rest was scored, each input has one record, beside extra ones of an earlier run that were right.
    left = Counter(r.name for i, r in enumerate(records) if i not in found.superseded)
    left.update(inputs[position] for position in todo)
    assert all(left[name] >= count for name, count in Counter(inputs).items())
    extra = sum(left[name] - count for name, count in Counter(inputs).items())
    current = Counter(r.name for r in records if now[r.name] == r.mtime_ns)
    assert extra == sum(max(0, current[name] - count) for name, count in Counter(inputs).items())


def line(name: str = "a", provenance: Provenance = PROVENANCE, **changes: Any) -> str:
    values = dict.fromkeys(("ood_score", "error_code", "error_message", "width", "height", "bits"))
    made = Prediction(
        path=name, sha256="0", status="scored", label="a", probabilities={"a": 1.0, "b": 0.0},
        logits={"a": 1.0, "b": 0.0}, provenance=provenance, time_utc="", bytes=1, mtime_ns=1, **values,  # type: ignore[arg-type]
    )  # fmt: skip
    return to_line({**made.to_record(LABELS), **changes})


def write(folder: Path, text: str) -> Path:
    (folder / "j.jsonl").write_text(text)
    return folder / "j.jsonl"


def test_whole_records_are_read_and_a_torn_one_is_left(tmp_path: Path) -> None:
    whole = line("a") + line("b")
    found = resume.read(write(tmp_path, whole + line("c")[:-1]), LABELS, PROVENANCE, "path")
    assert [record.name for record in found.records] == ["a", "b"]
    assert found.size == len(whole)
    for torn in ("", line("a")[:5], line("a")[:-1], "\0\0\0"):
        assert resume.read(write(tmp_path, torn), LABELS, PROVENANCE, "path") == resume.Left((), 0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("precious notes\n", "this is none: line 1 of"),
        ("precious notes", "holds something else"),
        (line() + "precious\n" + line(), "this is none: line 2 of"),
        (line() + "[]\n", "this is none: line 2 of"),
        (line() + '{"schema": 1, "path": "a"}\n', "an earlier version wrote this"),
        (line(schema=2), "an earlier version wrote this"),
        (line(schema=3), "an earlier version wrote this"),
        (line(provenance=replace(PROVENANCE, abstention="off")), "nothing abstains, as asked, and in this run"),
        (line(provenance=replace(PROVENANCE, abstention="asked", abstain_at=1.5)), "abstain from 1.5 on, as asked"),
        (line(provenance=replace(PROVENANCE, bundle_sha256="ab" * 32)), "another bundle"),
        (line(provenance=replace(PROVENANCE, engine="openvino", provider="CPU")), "openvino CPU int8 on cpu"),
        (line(extra=1), "other columns"),
        (line(f"sha256:{'0' * 64}"), "other --id"),
    ],
)  # fmt: skip
def test_what_another_thing_wrote_is_refused_and_left_as_it_is(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match=words):
        resume.read(path, LABELS, PROVENANCE, "path")
    assert path.read_text() == text


def test_names_are_refused_where_hashes_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="other --id"):
        resume.read(write(tmp_path, line("a.png")), LABELS, PROVENANCE, "hash")
    assert len(resume.read(write(tmp_path, line(f"sha256:{'0' * 64}")), LABELS, PROVENANCE, "hash").records) == 1


def test_a_file_is_known_by_length_and_time_or_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    status = path.stat()
    row = json.loads(line(str(path)))
    record = Finished(str(path), None, 5, status.st_mtime_ns, row["status"], row["label"], None)
    assert resume.rest([path], [record], "path").todo == ()
    assert resume.rest([path], [record._replace(mtime_ns=status.st_mtime_ns + 1)], "path").todo == ((0, path),)
    by_hash = record._replace(name="sha256:x", sha256=hashlib.sha256(b"hello").hexdigest())
    assert resume.rest([path, tmp_path / "absent"], [by_hash], "hash").todo == ((1, tmp_path / "absent"),)
