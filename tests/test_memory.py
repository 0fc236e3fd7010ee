"""Ten thousand pictures through the embedded network: a peak that small devices have, and no growth on the way."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from common import REAL
from edgecxr.pictures import files

PICTURES = 10_000
MAX_PEAK_MB = 300
MAX_GROWTH_MB = 10  # from the first 2,500 on


def links(folder: Path, originals: Sequence[Path], count: int = PICTURES) -> Path:
    folder.mkdir()
    for number in range(count):
        original = originals[number % len(originals)]
        (folder / f"{number:05}{original.suffix}").symlink_to(original.resolve())
    return folder


def watched(command: Sequence[object], records: Path) -> tuple[int, float, list[tuple[int, float]]]:
    """(exit code, peak in MB, [(bytes of records, resident MB)] as the run went on)"""
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    seen: list[tuple[int, float]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            try:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                seen.append((records.stat().st_size, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))
            except (OSError, IndexError):  # not begun, or over
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    over.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss / 1024, seen


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["samples", "originals"])
def test_ten_thousand_pictures(tmp_path: Path, samples: Path, kind: str) -> None:
    originals = sorted(samples.iterdir())
    if kind == "originals":
        if not (REAL / "fullres").is_dir():
            pytest.skip(f"no real pictures at {REAL} (set EDGECXR_DATA)")
        originals = list(files.find([REAL / "fullres"]).paths)
    records = tmp_path / "records.jsonl"
    folder = links(tmp_path / "in", originals)
    command = [sys.executable, "-m", "edgecxr", "infer", folder, "-o", records, "-q", "--engine", "onnxruntime"]
    code, peak, seen = watched(command, records)
    assert code == 0
    assert records.read_bytes().count(b"\n") == PICTURES
    whole = records.stat().st_size
    early = max(mb for size, mb in seen if size <= whole / 4)
    late = max(mb for size, mb in seen if size > whole / 4)
    print(f"{PICTURES} {kind}: peak {peak:.0f} MB; {early:.0f} MB at most in the first quarter, {late:.0f} MB after it")
    assert peak < MAX_PEAK_MB
    assert late - early < MAX_GROWTH_MB
