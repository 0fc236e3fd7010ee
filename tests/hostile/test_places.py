"""Names and places: whatever lies in a folder is one record, in bounded time."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common import ROOT
from edgecxr.bundle import load
from edgecxr.engines.select import Asked
from edgecxr.errors import PictureRejected
from edgecxr.pictures import files
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session
from hostile import measure

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="these places are POSIX's")

NAMES = [
    b"new\nline.png",
    b"carriage\rreturn.png",
    b"escape\x1b[2J\x1b]0;owned\x07.png",
    b"latin-\xe9.png",
    b"\xff\xfe.png",
    "right-to-left-\u202egnp.exe".encode(),
    b"\"quotes\" 'and', comma;.png",
    b"=HYPERLINK(0).png",
    b"[bold]markup[reset].png",
    b" spaces .png",
    b"-o",
    b"x" * 251 + b".png",  # 255 bytes, the longest there is
]


def codes(path: Path) -> dict[bytes, str]:
    """Name -> status, or the code of a rejection."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {os.fsencode(Path(r["path"]).name): r["error"]["code"] if r["error"] else r["status"] for r in rows}


def test_any_name_is_one_record_and_steers_nothing(
    tmp_path: Path, tiny_bundle: Path, picture: Callable[..., Path]
) -> None:
    data = picture("good.png").read_bytes()
    (tmp_path / "in").mkdir()
    for name in NAMES:
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(data)
    for output in ("out.jsonl", "out.csv", "-", None):
        where = [] if output is None else ["-o", output if output == "-" else tmp_path / output]
        run = measure.edgecxr(tmp_path, "infer", tmp_path / "in", "-m", tiny_bundle, *where)
        assert run.code == 0, run.stderr
        for sign in ("\x1b", "\x07", "\r", "\u202e", "\nline"):
            assert sign not in run.stdout + run.stderr
        if output == "-":
            assert len(run.stdout.splitlines()) == len(NAMES)
    assert codes(tmp_path / "out.jsonl") == dict.fromkeys(NAMES, "scored")


def test_any_place_is_one_record_in_bounded_time(
    tmp_path: Path, tiny_bundle: Path, picture: Callable[..., Path]
) -> None:
    folder = picture("in/good.png").parent
    os.mkfifo(folder / "fifo.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "terminal.png").symlink_to("/dev/tty")
    (folder / "process.png").symlink_to("/proc/self/mem")
    (folder / "loop-a.png").symlink_to("loop-b.png")
    (folder / "loop-b.png").symlink_to("loop-a.png")
    (folder / "self.png").symlink_to("self.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "up").symlink_to("..")  # a loop of folders, which isn't followed
    (folder / "linked.png").symlink_to("good.png")
    deep = folder
    for _ in range(150):
        deep /= "d" * 10
    deep.mkdir(parents=True)
    shutil.copy(folder / "good.png", deep / "deep.png")
    run = measure.edgecxr(tmp_path, "infer", folder, "-m", tiny_bundle, "-o", tmp_path / "out.jsonl", "--json")
    assert run.code == 1, run.stderr
    assert run.seconds < 60
    assert codes(tmp_path / "out.jsonl") == {
        b"good.png": "scored", b"linked.png": "scored", b"deep.png": "scored", b"fifo.png": "not_a_file",
        b"zero.png": "not_a_file", b"terminal.png": "not_a_file", b"process.png": "empty",
        b"loop-a.png": "unreadable", b"loop-b.png": "unreadable", b"self.png": "unreadable",
        b"dangling.png": "unreadable",
    }  # fmt: skip
    assert json.loads(run.stdout)["skipped"] == 1


def test_folders_nest_deeper_than_calls(tmp_path: Path, picture: Callable[..., Path]) -> None:
    before = Path.cwd()
    top = tmp_path / "in"
    top.mkdir()
    try:
        os.chdir(top)
        for _ in range(2500):  # deeper than Python's calls, and in the end than a path may be long
            Path("d").mkdir()
            os.chdir("d")
        os.chdir(before)
        (found,) = files.find([top]).paths
        with pytest.raises(PictureRejected, match=r"File name too long"):
            files.read(found)
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-rf", str(top)], check=True)


def test_what_may_not_be_read_is_one_record(tmp_path: Path, tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    folder = picture("in/good.png").parent
    for name in ("secret.png", "closed/inside.png", "half/inside.png"):
        picture(f"in/{name}")
    (folder / "half" / "link.png").symlink_to("../closed/inside.png")
    closed = {folder / "secret.png": 0, folder / "closed": 0, folder / "half": 0o644}  # half: listed and not entered
    # Root reads everything unless it gives up the two capabilities for that.
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    if prefix and (shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode):
        pytest.skip("root can't give up reading everything here: no setpriv")
    for path, mode in closed.items():
        path.chmod(mode)
    try:
        command = [*prefix, sys.executable, "-m", "edgecxr", "infer", str(folder), "-m", str(tiny_bundle), "-o", "-"]
        run = measure.run(tmp_path, command)
    finally:
        for path in closed:
            path.chmod(0o755)
    assert run.code == 1, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    found = {r["path"].partition("/in/")[2]: (r["error"] or {"message": r["status"]})["message"] for r in rows}
    assert found == {
        "closed": "the folder can't be listed: Permission denied",
        "good.png": "scored",
        "half/inside.png": "the file can't be read: Permission denied",
        "half/link.png": "the file can't be read: Permission denied",
        "secret.png": "the file can't be read: Permission denied",
    }


def test_what_vanishes_or_grows_between_listing_and_reading_is_one_record(
    tmp_path: Path, tiny_bundle: Path, picture: Callable[..., Path]
) -> None:
    session = open_session(load(tiny_bundle), Asked(engine="onnxruntime", device="cpu"), workers=2)
    good = [picture(f"in/{number}.png", seed=number) for number in range(6)]
    found = files.find([tmp_path / "in"]).paths
    good[1].unlink()
    good[3].unlink()
    good[3].mkdir()
    predictions = list(pipeline.stream(session, found))
    assert [p.error_code or p.status for p in predictions] == [
        "scored", "unreadable", "scored", "not_a_file", "scored", "scored",
    ]  # fmt: skip
    assert len({p.path for p in predictions}) == 6


def test_a_file_that_grows_while_it_is_read_is_not_taken_for_whole(
    picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture()
    real = os.fdopen

    def grow(descriptor: int, *arguments: object, **options: object) -> object:
        with path.open("ab") as file:
            file.write(b"more")
        return real(descriptor, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(files.os, "fdopen", grow)
    with pytest.raises(PictureRejected, match="changed its length"):
        files.read(path)


def test_a_folder_that_vanishes_while_the_tree_is_walked_is_one_record(
    tmp_path: Path, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture("in/a.png")
    (tmp_path / "in" / "gone").mkdir()
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "gone":
            raise FileNotFoundError(2, "No such file or directory")
        return real(path)

    monkeypatch.setattr(files.os, "scandir", scandir)
    assert [path.name for path in files.find([tmp_path / "in"]).paths] == ["a.png", "gone"]


def test_a_device_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*arguments: object) -> None:
        raise AssertionError("opened")

    (tmp_path / "watchdog").symlink_to("/dev/null")  # to open the real one would start it
    monkeypatch.setattr(files.os, "open", opened)
    with pytest.raises(PictureRejected) as caught:
        files.read(tmp_path / "watchdog")
    assert caught.value.code == "not_a_file"


@pytest.fixture
def stalled(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Reads of names that begin with `stall` don't come back until the event is set; half a second is waited."""
    event = threading.Event()
    real = files._read

    def read(path: Path) -> object:
        if path.name.startswith("stall"):
            event.wait(60)
        return real(path)

    monkeypatch.setattr(files, "_read", read)
    monkeypatch.setattr(files, "READ_SECONDS", 0.5)
    yield event
    event.set()
    for task in files._stalled:
        task.join(10)
    files._stalled.clear()


def test_a_read_that_stalls_is_read_timeout_after_the_stated_time(
    tmp_path: Path, tiny_bundle: Path, picture: Callable[..., Path], stalled: threading.Event
) -> None:
    session = open_session(load(tiny_bundle), Asked(engine="onnxruntime", device="cpu"), workers=2)
    names = ["a.png", "stall-1.png", "b.png", "stall-2.png", "c.png"]
    paths = [picture(f"in/{name}") for name in names]
    begin = time.monotonic()
    predictions = list(pipeline.stream(session, paths))
    assert [p.error_code or p.status for p in predictions] == [
        "scored", "read_timeout", "scored", "read_timeout", "scored",
    ]  # fmt: skip
    assert predictions[1].error_message == "the file couldn't be read within 0.5 seconds"
    assert 0.5 <= time.monotonic() - begin < 30  # a read that is waited for takes 60


def test_a_dead_share_costs_minutes_and_not_days(
    picture: Callable[..., Path], stalled: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "READ_SECONDS", 0.05)
    path, good = picture("stall.png"), picture("good.png")
    before = threading.active_count()
    for _ in range(files.MAX_STALLED):
        with pytest.raises(PictureRejected, match="within"):
            files.read(path)
    monkeypatch.setattr(files, "READ_SECONDS", 1.0)  # were they waited for, 1,000 seconds
    begin = time.monotonic()
    for _ in range(1000):
        with pytest.raises(PictureRejected, match="earlier reads haven't come back") as caught:
            files.read(path)
        assert caught.value.code == "read_timeout"
    assert time.monotonic() - begin < 60
    assert len(files._stalled) == files.MAX_STALLED
    assert threading.active_count() - before <= files.MAX_STALLED
    stalled.set()  # the share is back
    for task in list(files._stalled):
        task.join(10)
    assert files.read(good) == good.read_bytes()


def test_a_stalled_read_does_not_keep_the_program_from_ending(tmp_path: Path, tiny_bundle: Path) -> None:
    code = (
        "import sys, time\nfrom edgecxr.pictures import files\n"
        "files.READ_SECONDS, files._read = 0.5, lambda path: time.sleep(600)\n"
        f"sys.argv = ['edgecxr', 'infer', {str(ROOT / 'samples')!r}, '-m', {str(tiny_bundle)!r}, '-o', '-']\n"
        "from edgecxr.__main__ import main\nmain()\n"
    )
    run = measure.run(tmp_path, [sys.executable, "-c", code])
    assert run.code == 1, run.stderr
    assert {json.loads(line)["error"]["code"] for line in run.stdout.splitlines()} == {"read_timeout"}
    assert run.seconds < 60


def test_an_error_of_ours_is_loud_and_no_timeout(picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, status: object) -> None:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(files, "_unfit", broken)
    with pytest.raises(ZeroDivisionError, match="by design"):
        files.read(picture())


def test_the_stated_time_is_half_a_minute() -> None:
    assert files.READ_SECONDS == 30
