"""Runs of `infer` in processes of their own, to be killed, and what they left."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from common import noisy


def pictures(folder: Path, count: int) -> Path:
    """`count` files: mostly good pictures, some damaged, one empty and one that is a link to nowhere."""
    folder.mkdir(parents=True)
    originals = folder.parent / "originals"
    originals.mkdir()
    for seed in range(10):
        Image.fromarray(noisy((96, 80), seed)).save(originals / f"{seed}.png")
    (originals / "cut.png").write_bytes((originals / "0.png").read_bytes()[:300])
    for number in range(count):
        target = "cut" if number % 17 == 5 else str(number % 10)
        (folder / f"{number:05}.png").symlink_to(originals / f"{target}.png")
    (folder / f"{count // 2:05}-empty.png").write_bytes(b"")
    (folder / f"{count // 3:05}-gone.png").symlink_to("nowhere")
    return folder


@dataclass(frozen=True)
class Task:
    """A run over `folder` into `output`."""

    folder: Path
    bundle: Path
    output: Path

    def command(self, *options: str) -> list[str]:
        what = ["infer", self.folder, "-m", self.bundle, "-o", self.output, "--engine", "onnxruntime", "-q", *options]
        return [sys.executable, "-m", "edgecxr", *map(str, what)]

    def run(self, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*options), check=False, capture_output=True, text=True, timeout=300, **more)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    @property
    def part(self) -> Path:
        return self.output.with_name(f"{self.output.name}.part")


def whole(path: Path) -> list[bytes]:
    """The whole lines of a file that may still be growing."""
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def answers(path: Path) -> list[dict[str, Any]]:
    """Records without the time at which they were made."""
    records = [json.loads(line) for line in whole(path)]
    for record in records:
        assert record.pop("time_utc")
    return records
