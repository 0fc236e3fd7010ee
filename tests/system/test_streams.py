"""Standard streams in every state that devices have them in: what must arrive arrives, or the exit code says so."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecxr.errors import EdgecxrError, ReaderLeft, StorageError
from edgecxr.system import streams

if not Path("/dev/full").exists():
    pytest.skip("no /dev/full here", allow_module_level=True)

PICTURES = 30  # their records are more than a pipe of one page holds
F_SETPIPE_SZ = 1031  # fcntl(2)
PLAIN = "file"
FAILING = ("full", "left", "read-only")
SLOW = ("non-blocking", "unbuffered")  # a pipe of one page, read after a while; PYTHONUNBUFFERED beside it
STATES = (*FAILING, *SLOW, "closed")
STDERR_STATES = ("full", "left", "non-blocking", "closed")


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str  # what arrived
    stderr: str


@contextmanager
def sink(state: str) -> Iterator[tuple[int, Callable[[], str]]]:
    """(a descriptor in that state, what arrived there once the program has ended)"""
    if state in ("full", "read-only", "closed"):
        with open("/dev/full" if state == "full" else os.devnull, "r" if state == "read-only" else "w") as file:  # noqa: PTH123
            yield file.fileno(), lambda: ""
        return
    read, write = os.pipe()
    arrived: list[bytes] = []

    def collect() -> None:
        if state in SLOW:
            time.sleep(1.5)
        with open(read, "rb") as file:  # noqa: PTH123
            arrived.append(file.read())

    reader = threading.Thread(target=collect)
    if state == "left":
        os.close(read)
    else:
        reader.start()
    if state in SLOW:
        fcntl.fcntl(write, F_SETPIPE_SZ, 4096)
        os.set_blocking(write, False)
    closed: list[bool] = []

    def text() -> str:
        os.close(write)
        closed.append(True)
        if state == "left":
            return ""
        reader.join()
        return arrived[0].decode()

    try:
        yield write, text
    finally:
        if not closed:
            text()


def run(cwd: Path, arguments: list[object], *, given: int = subprocess.DEVNULL, **states: str) -> Done:
    """Run the command line with its streams in those states, and `given` as its stdin where that isn't closed."""
    closed = [number for number, name in enumerate(("stdin", "stdout", "stderr")) if states.get(name) == "closed"]
    environment = {**os.environ, **({"PYTHONUNBUFFERED": "1"} if "unbuffered" in states.values() else {})}
    command = [sys.executable, "-m", "edgecxr", *map(str, arguments)]
    with sink(states.get("stdout", PLAIN)) as (out, stdout), sink(states.get("stderr", PLAIN)) as (err, stderr):
        code = subprocess.run(
            command, cwd=cwd, env=environment, stdin=given, stdout=out, stderr=err, check=False, timeout=120,
            preexec_fn=lambda: [os.close(number) for number in closed] and None,
        ).returncode  # fmt: skip
        return Done(code, stdout(), stderr())


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Pictures of two labels, and one that is rejected beside them."""
    first = picture("in/covid/00.png")
    (tmp_path / "in" / "normal").mkdir()
    for number in range(1, PICTURES):
        os.link(first, tmp_path / "in" / ("covid", "normal")[number % 2] / f"{number:02}.png")
    (tmp_path / "mixed").mkdir()
    os.link(first, tmp_path / "mixed" / "a.png")
    (tmp_path / "mixed" / "b.png").write_bytes(b"no picture")
    return tmp_path


# name: (arguments, exit code, lines on stdout at least)
COMMANDS: dict[str, tuple[list[str], int, int]] = {
    "version": (["--version"], 0, 1),
    "help": (["infer", "--help"], 0, 40),
    "info": (["info", "{model}"], 0, 5),
    "info as JSON": (["info", "{model}", "--json"], 0, 40),
    "records": (["infer", "in", "-m", "{model}", "-o", "-"], 0, PICTURES),
    "table": (["infer", "in", "-m", "{model}"], 0, PICTURES),
    "file": (["infer", "mixed", "-m", "{model}", "-o", "r{}.jsonl"], 1, 0),
    "summary": (["infer", "mixed", "-m", "{model}", "-o", "r{}.csv", "--json"], 1, 10),
    "doctor": (["doctor", "--json"], 0, 10),
    "verify": (["verify", "{model}", "--engine", "onnxruntime"], 0, 2),
    "usage": (["infer", "nowhere", "-m", "{model}"], 2, 0),
    "train": (["train", "in", "-o", "RUN", "--learning-rate", "5"], 2, 0),
}
BENCH = ["bench", "-m", "{model}", "--seconds", "1", "-b", "1", "--engine", "onnxruntime", "-o", "b{}.json"]
HEAVY: dict[str, tuple[list[str], int, int]] = {
    "eval": (["eval", "{model}", "in", "-o", "e{}.json"], 0, 10),
    "audit": (["audit", "in", "-o", "a{}.json"], 0, 1),
    "bench": (BENCH, 0, 5),
    "tune": (["tune", "-m", "{model}", "--seconds", "1", "--engine", "onnxruntime", "--precision", "int8"], 0, 3),
}


def check(folder: Path, bundle: Path, name: str, number: int, **states: str) -> None:
    arguments, code, lines = {**COMMANDS, **HEAVY}[name]
    done = run(folder, [part.format(number, model=bundle) for part in arguments], **states)
    stdout = states.get("stdout", PLAIN)
    written = sorted(path for path in folder.glob(f"*{number}.*") if path.suffix in (".jsonl", ".csv", ".json"))
    told = (name, states, done)
    if lines and stdout in FAILING:
        assert done.code == (141 if stdout == "left" else 70), told
        if stdout != "left" and states.get("stderr", PLAIN) == PLAIN:
            assert "the output can't be written to stdout" in done.stderr, told
    elif name == "records" and stdout == "closed":
        assert done.code == 70, told
    else:
        assert done.code == code, told
        if stdout != "closed":
            assert done.stdout.count("\n") >= lines, told
        if name == "records":
            assert len([json.loads(line) for line in done.stdout.splitlines()]) == PICTURES, told
    if any("{}" in part for part in arguments):  # the work is done all the same, and its file is whole
        assert [path.stat().st_size > 100 for path in written] == [True], told
    assert "Traceback" not in done.stderr, told


CELLS = [
    ("records", {"stdout": "unbuffered"}),
    ("records", {"stdout": "closed"}),
    ("table", {"stdout": "full"}),
    ("summary", {"stdout": "full", "stderr": "full"}),
    ("info as JSON", {"stdout": "left"}),
    ("file", {"stdin": "closed", "stdout": "closed", "stderr": "closed"}),
    ("file", {"stderr": "non-blocking"}),
    ("usage", {"stderr": "left"}),
]


@pytest.mark.parametrize(("name", "states"), CELLS, ids=str)
def test_a_cell_of_each_kind(folder: Path, tiny_bundle: Path, name: str, states: dict[str, str]) -> None:
    check(folder, tiny_bundle, name, 0, **states)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [*COMMANDS, *HEAVY])
def test_every_stream_in_every_state(folder: Path, tiny_bundle: Path, name: str) -> None:
    none = {"stdin": "closed", "stdout": "closed", "stderr": "closed"}
    if name in HEAVY:
        cells = [none, {"stdout": "full"}, {"stderr": "full"}]
    else:
        cells = [none, *({"stdout": state} for state in STATES), *({"stderr": state} for state in STDERR_STATES)]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(check, folder, tiny_bundle, name, i, **states) for i, states in enumerate(cells)]
        for each in running:
            each.result()


def serve(folder: Path, bundle: Path, given: int, **states: str) -> Done:
    return run(folder, ["infer", "--stdin", "-m", bundle, "-q"], given=given, **states)


def test_a_resident_program_without_stdin_ends(folder: Path, tiny_bundle: Path) -> None:
    done = serve(folder, tiny_bundle, subprocess.DEVNULL, stdin="closed")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


def test_a_resident_program_waits_on_a_stdin_that_does_not_block(folder: Path, tiny_bundle: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)

    def ask() -> None:
        for _ in range(3):
            time.sleep(0.7)
            os.write(write, b"mixed/a.png\n")
        os.close(write)

    asking = threading.Thread(target=ask)
    asking.start()
    done = serve(folder, tiny_bundle, read)
    asking.join()
    os.close(read)
    assert (done.code, done.stderr) == (0, "")
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["scored"] * 3


def test_a_stdin_that_cannot_be_read_is_one_sentence(folder: Path, tiny_bundle: Path) -> None:
    written_to = os.open(os.devnull, os.O_WRONLY)
    done = serve(folder, tiny_bundle, written_to)
    os.close(written_to)
    assert done.code == 70
    assert done.stderr == "edgecxr: paths are read from stdin, and it can't be read (Bad file descriptor)\n"


def test_no_file_becomes_a_stream_that_is_closed(tmp_path: Path) -> None:
    code = (
        "import os\nfrom edgecxr.system import streams\nfor number in range(3): os.close(number)\n"
        "streams.prepare()\nmine = os.open('mine', os.O_CREAT | os.O_WRONLY)\n"
        "os.system('echo a child says this; echo and this >&2')\n"
        "os.write(mine, str(mine).encode())\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    assert int((tmp_path / "mine").read_text()) > 2


class Raw(io.RawIOBase):
    """Takes seven bytes at a time, and every third time none."""

    def __init__(self, descriptor: int, error: int | None = None) -> None:
        self.taken, self._calls, self._descriptor, self._error = b"", 0, descriptor, error

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: memoryview) -> int | None:  # type: ignore[override]
        if self._error is not None:
            raise OSError(self._error, os.strerror(self._error))
        self._calls += 1
        if self._calls % 3 == 0:
            return None
        self.taken += bytes(data[:7])
        return len(data[:7])


def test_a_write_is_whole_however_little_is_taken_at_a_time() -> None:
    text = "ä record\n" * 100
    with open(os.devnull, "w") as ready:  # noqa: PTH123
        for kind in (streams._Stdout, streams._Stderr):
            raw = Raw(ready.fileno())
            stream = io.TextIOWrapper(kind(raw), encoding="utf-8", write_through=True)
            stream.write(text)
            assert raw.taken.decode() == text


def test_an_error_on_stdout_ends_the_command_and_one_on_stderr_nothing() -> None:
    with pytest.raises(ReaderLeft):
        streams._Stdout(Raw(1, 32)).write(b"x")  # EPIPE
    for number, words in ((28, "No space left"), (5, "Input/output error"), (9, "Bad file descriptor")):
        with pytest.raises(StorageError, match=words):
            streams._Stdout(Raw(1, number)).write(b"x")
        streams._Stderr(Raw(2, number)).write(b"x")
    streams._Stderr(Raw(2, 32)).write(b"x")


def test_a_stderr_that_nobody_reads_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float | None] = []
    monkeypatch.setattr(streams, "_wait", lambda _, seconds=None: waited.append(seconds))
    monkeypatch.setattr(Raw, "write", lambda *_: None)
    stream = streams._Stderr(Raw(2))
    for _ in range(3):
        stream.write(b"a bar")
    assert waited == [streams.STUCK_SECONDS, 0, 0]


def test_an_error_of_the_reading_thread_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgecxr.system import threads

    def fail() -> int:
        raise EdgecxrError("by design")

    task = threads.begin(fail, "a thread")
    assert task.join(10)
    with pytest.raises(EdgecxrError, match="by design"):
        _ = task.outcome
    assert threads.begin(lambda: 3, "another").join(10)  # the thread goes on
