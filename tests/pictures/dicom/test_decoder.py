"""The process that decodes: what happens in it stays in it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import dicoms
from common import ROOT
from edgecxr.errors import PictureRejected
from edgecxr.pictures.dicom import decoder

VALUES = dicoms.values()
ROWS, COLUMNS = VALUES.shape
JPEG_LS = dicoms.compressed(VALUES)[dicoms.JPEG_LS]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    decoder.end()
    yield
    decoder.end()


def idle() -> list[decoder._Child]:
    return decoder._idle.get(os.getpid(), [])


def decoded(codec: str = "jpeg-ls", frame: bytes = JPEG_LS) -> bool:
    samples, _ = decoder.decode(codec, frame, ROWS, COLUMNS)
    return np.array_equal(samples, VALUES)


def rejection(codec: str = "jpeg-ls", frame: bytes = JPEG_LS, **size: int) -> PictureRejected:
    with pytest.raises(PictureRejected) as caught:
        decoder.decode(codec, frame, **{"rows": ROWS, "columns": COLUMNS, **size})
    return caught.value


def test_one_process_decodes_one_frame_after_the_other() -> None:
    assert decoded()
    (child,) = idle()
    for _ in range(5):
        assert decoded()
        assert rejection(frame=JPEG_LS[: len(JPEG_LS) // 2]).code == "corrupt"
    assert idle() == [child]


def test_there_are_no_more_than_threads() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda _: decoded(), range(8)))
    assert 1 <= len(idle()) <= 2


@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_one_rejection(how: signal.Signals) -> None:
    assert decoded()
    os.kill(idle()[0]._process.pid, how)
    idle()[0]._process.wait()
    assert rejection().code == "decoder_failed"
    assert decoded()


def test_what_no_decoder_is_known_to_do_is_one_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(decoder.CODECS, "unheard-of", 99)
    rejected = rejection("unheard-of")
    assert (rejected.code, "ended before" in rejected.message) == ("decoder_failed", True)
    assert decoded()


def test_a_frame_that_takes_too_long_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decoded()
    os.kill(idle()[0]._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(decoder, "SECONDS", 0.2)
    rejected = rejection()
    assert (rejected.code, "took longer" in rejected.message) == ("decoder_failed", True)
    monkeypatch.undo()
    assert decoded()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are Linux's")
def test_memory_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 1200
    frame = dicoms.compressed(np.tile(VALUES, (15, 13))[:side, :side])[dicoms.JPEG_2000]
    assert decoder.decode("jpeg-2000", frame, side, side)[1]
    decoder.end()
    monkeypatch.setattr(decoder, "MEMORY", 2 << 20)
    monkeypatch.setattr(decoder, "MEMORY_A_PIXEL", 0)
    assert rejection("jpeg-2000", frame, rows=side, columns=side).code in ("decoder_failed", "corrupt")
    monkeypatch.undo()
    assert decoded()


def test_an_answer_of_another_size_is_not_believed() -> None:
    assert rejection(rows=COLUMNS, columns=ROWS).code == "corrupt"
    assert decoded()


def test_ctrl_c_is_for_whoever_started_it() -> None:
    assert decoded()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(idle()[0]._process.pid, number)
    assert decoded()


def test_a_process_that_does_not_start_is_a_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "MODULE", "edgecxr.no_such_module")
    rejected = rejection()
    assert (rejected.code, "doesn't start" in rejected.message) == ("decoder_failed", True)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert rejection().code == "decoder_failed"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_leaves_the_process_to_its_parent() -> None:
    code = (
        f"import os, sys; sys.path[:0] = [{str(ROOT / 'tests')!r}]\n"
        "from pictures.dicom.test_decoder import decoded, idle\n"
        "assert decoded(); pid = idle()[0]._process.pid\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    ok = not idle() and decoded() and idle()[0]._process.pid != pid\n"
        "    os._exit(0 if ok else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "assert decoded() and idle()[0]._process.pid == pid\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_it_ends_with_the_program_however_that_ends() -> None:
    code = (
        f"import os, sys; sys.path[:0] = [{str(ROOT / 'tests')!r}]\n"
        "from pictures.dicom.test_decoder import decoded, idle\n"
        "assert decoded(); print(idle()[0]._process.pid, flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    state = Path(f"/proc/{int(done.stdout)}/stat")
    for _ in range(100):
        if not state.is_file() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the process is still there")
