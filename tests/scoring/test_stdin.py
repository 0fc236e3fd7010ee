"""infer --stdin: a path a line in, a record a line out, at once and in order."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecxr.scoring.stdin import MAX_LINE, lines

Run = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def resident(bundle: Path, *options: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "edgecxr", "infer", "--stdin", "-m", bundle, "-q", *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(list(map(str, command)), bufsize=0, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def ask(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)


def answer(process: subprocess.Popen[bytes], seconds: float = 60) -> dict[str, Any]:
    """The next record; fails where none comes."""
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        assert ready, f"no answer within {seconds} s"
        piece = os.read(process.stdout.fileno(), 1)
        assert piece, f"the program ended: {process.communicate()[1]!r}"
        text += piece
    record: dict[str, Any] = json.loads(text)
    return record


@pytest.mark.parametrize("options", [["-j", 1], ["-j", 4, "-b", 8]])
def test_each_line_is_answered_before_the_next_is_sent(
    tiny_bundle: Path, picture: Callable[..., Path], options: list[object]
) -> None:
    path = picture()
    asked = [str(path), "nowhere.png", f"{path.parent}/./a.png", "", str(path.parent), "with\0nul", str(path)]
    with resident(tiny_bundle, *options) as process:
        for name in asked:
            ask(process, name.encode() + b"\n")
            record = answer(process)  # nothing else was sent meanwhile
            assert record["path"] == (name or None)  # as it was given
            assert record["status"] == ("scored" if name.endswith("a.png") else "rejected")
        assert process.poll() is None  # it stays
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 1  # as any run that rejected some
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_many_lines_at_once_are_answered_in_order(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path]
) -> None:
    paths = [picture(f"{i}.png", seed=i) for i in range(8)] * 25
    text = "\r\n".join(map(str, paths))  # another system's line ends, and none at the end
    done = edgecxr("infer", "--stdin", "-m", tiny_bundle, "-j", 4, input=text)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["path"] for record in records] == [str(path) for path in paths]
    assert len({record["logit_covid"] for record in records}) == 8
    assert "200 pictures in" in done.stderr


def test_names_that_are_no_utf8_and_lines_without_end(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path]
) -> None:
    path = picture(os.fsdecode(b"latin\xe9.png"))
    command = [sys.executable, "-m", "edgecxr", "infer", "--stdin", "-m", str(tiny_bundle), "-q"]
    text = os.fsencode(path) + b"\n" + b"x" * (MAX_LINE + 1) + b"\n" + os.fsencode(path)
    done = subprocess.run(command, input=text, capture_output=True, check=False, timeout=120)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["status"] for record in records] == ["scored", "rejected", "scored"]
    assert records[0]["path"] == str(path)
    assert "more than 65,536 bytes" in records[1]["error"]["message"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_answers_what_was_asked_and_ends(
    tiny_bundle: Path, picture: Callable[..., Path], number: signal.Signals, code: int
) -> None:
    path = picture()
    with resident(tiny_bundle, "-j", 2) as process:
        ask(process, f"{path}\n".encode())
        assert answer(process)["status"] == "scored"
        ask(process, f"{path}\n".encode() * 3)
        first = answer(process)
        process.send_signal(number)  # while it waits for another line, or has some in hand
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == code, stderr
        rest = [json.loads(line) for line in stdout.splitlines()]
        assert {record["status"] for record in [first, *rest]} == {"scored"}
        assert len(rest) <= 2
        assert b"Traceback" not in stderr


def test_hashes_in_place_of_names_and_fail_fast(edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    path = picture()
    text = f"{path}\nabsent\n{path}\n"
    done = edgecxr("infer", "--stdin", "-m", tiny_bundle, "--id", "hash", "--fail-fast", "-q", input=text)
    assert done.returncode == 1
    names = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert names[0].startswith("sha256:")
    assert names[1:] == ["unread:2"]


def test_a_reader_that_leaves_ends_it(tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    path = picture()
    with resident(tiny_bundle) as process:
        ask(process, f"{path}\n".encode())
        answer(process)
        assert process.stdout is not None
        process.stdout.close()
        ask(process, f"{path}\n".encode())
        assert process.wait(60) == 141


@pytest.mark.parametrize("options", [["a.png"], ["-o", "r.jsonl"], ["--resume"], ["--limit", 3], ["--json"]])
def test_what_does_not_go_with_it_is_one_sentence(edgecxr: Run, tiny_bundle: Path, options: list[object]) -> None:
    done = edgecxr("infer", "--stdin", "-m", tiny_bundle, *options, input="")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


@given(st.lists(st.binary(max_size=6).map(lambda b: b.replace(b"\n", b"")), max_size=6), st.booleans(), st.data())
def test_lines_are_the_same_however_they_come(wanted: list[bytes], ended: bool, data: st.DataObject) -> None:
    text = b"".join(line + b"\n" for line in wanted)
    if not ended:
        text = text[:-1]
    pieces = []
    while text:
        size = data.draw(st.integers(1, len(text)))
        pieces.append(text[:size])
        text = text[size:]
    pieces.append(b"")
    expected = [line.removesuffix(b"\r") for line in wanted]
    if not ended and expected and not wanted[-1]:
        expected.pop()  # what has neither content nor end is no line
    assert list(lines(iter(pieces).__next__)) == expected


def test_a_line_that_is_too_long_is_passed_over_in_bounded_memory() -> None:
    piece = b"x" * 1000
    pieces = iter([b"a\n", *[piece] * 500, b"\nb\n", *[piece] * 100, b""])
    assert list(lines(pieces.__next__)) == [b"a", None, b"b", None]
