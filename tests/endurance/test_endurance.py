"""Tens of thousands of pictures: memory that stays where it is after the first thousand, and no file left open."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common import ROOT, noisy

WARM_UP = 1_000  # pictures; buffers and arenas are filled by then
MAX_SLOPE_KB = 1024.0  # a thousand pictures

# In a process of its own, so that nothing of pytest is measured: the command line itself, looked at as it goes.
PROGRAM = """
import gc, json, os, sys
from edgecxr.scoring import folder
every, samples, done = int(sys.argv.pop(1)), [], 0
real = folder.score
def look():
    with open('/proc/self/statm') as file:
        samples.append([done, int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1024])
def files():
    gc.collect()
    return len(os.listdir('/proc/self/fd'))
def score(run, advance=lambda: None, **more):
    def count():
        global done
        done += 1
        if done % every == 0:
            look()
        advance()
    before = files()
    real(run, count, **more)
    print(json.dumps([samples, files() - before]))
folder.score = score
from edgecxr.__main__ import main
main()
"""


def pictures(folder: Path, count: int) -> Path:
    """`count` links to twenty small files, two of them damaged: rejections, too, must leave nothing behind."""
    folder.mkdir()
    originals = []
    for seed in range(20):
        ending = ("png", "jpg", "tif", "bmp")[seed % 4]
        path = folder.parent / f"{seed}.{ending}"
        Image.fromarray(noisy((80, 72), seed)).save(path)
        if seed >= 18:
            path.write_bytes(path.read_bytes()[:500])
        originals.append(path)
    for number in range(count):
        (folder / f"{number:06}.png").symlink_to(originals[number % 20])
    return folder


def samples(folder: Path, scratch: Path, every: int, *options: object) -> tuple[np.ndarray, int]:
    """(S, 2): pictures done, resident memory in KB; and how many more files are open at the end than at the start, when
    no worker is reading one, so that no busy machine counts."""
    command = [sys.executable, "-c", PROGRAM, every, "infer", folder, "-o", scratch / "out.csv", "-q", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    found, left_open = json.loads(done.stdout)
    return np.array(found), left_open


def check(measured: tuple[np.ndarray, int], count: int) -> None:
    found, left_open = measured
    warm = found[found[:, 0] >= WARM_UP]
    assert found[-1, 0] == count
    slope = np.polyfit(warm[:, 0] / 1000, warm[:, 1], 1)[0]
    print(f"{count} pictures: {slope:+.1f} KB a thousand, {found[-1, 1] / 1024:.0f} MB at the end")
    assert slope < MAX_SLOPE_KB
    assert left_open <= 0


@pytest.mark.long
@pytest.mark.parametrize("engine", ["onnxruntime"])
def test_fifty_thousand_pictures(tmp_path: Path, tiny_bundle: Path, engine: str) -> None:
    found = samples(pictures(tmp_path / "in", 50_000), tmp_path, 250, "-m", tiny_bundle, "--engine", engine, "-j", 2)
    check(found, 50_000)


@pytest.mark.long
def test_two_thousand_with_the_embedded_model(tmp_path: Path) -> None:
    check(samples(pictures(tmp_path / "in", 2_000), tmp_path, 50, "-j", 2), 2_000)


def test_three_thousand_pictures(tmp_path: Path, tiny_bundle: Path) -> None:
    check(samples(pictures(tmp_path / "in", 3_000), tmp_path, 50, "-m", tiny_bundle, "-j", 2), 3_000)
