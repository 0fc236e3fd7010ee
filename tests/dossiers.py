"""Technical files of the tiny bundle: one that measured, and one of everything that can be given."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import tiny
from common import command_line, noisy


@dataclass(frozen=True)
class Made:
    """Folders and files of the tests of this folder."""

    bundle: Path
    old: Path
    measured: Path  # the technical file of `bundle`, with a bench of here
    evaluation: Path
    audit: Path
    whole: Path  # the technical file with these, the bench of `measured`, and `old`

    def data(self, folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((folder / "technical-file.json").read_text())
        return found


def make(root: Path) -> Made:
    """Write all of it."""
    points = [{"label": "covid", "target_sensitivity": 0.9, "threshold": 0.25, "sensitivity": 0.91, "specificity": 0.8,
               "split": "dev", "pictures": 40}]  # fmt: skip
    said = {
        "operating_points": points,
        "provenance": {"run": {"recipe": "default", "seed": 3}, "notes": ["<b>bold</b> & drawn"]},
    }
    found = Made(
        tiny.write_bundle(root / "new.edgecxr", abstain_at=40.0, version="2", **said),
        tiny.write_bundle(root / "old.edgecxr", temperature=3.0),
        root / "measured",
        root / "eval.json",
        root / "audit.json",
        root / "whole",
    )  # fmt: skip
    for index, label in enumerate(tiny.LABELS):
        (root / "films" / label).mkdir(parents=True)
        for number in range(4):
            picture = noisy((96, 80), 10 * index + number)
            Image.fromarray(picture).save(root / "films" / label / f"{number}.png")
    quick = ("--engine", "onnxruntime", "--precision", "int8", "--seconds", "1")
    run("report", found.bundle, "-o", found.measured, *quick)
    run("eval", found.bundle, root / "films", "--against", found.old, "--require", "accuracy>=0.99",
        "-o", found.evaluation, "--engine", "onnxruntime", code=5)  # fmt: skip
    run("audit", root / "films", "-o", found.audit)
    given = [
        word for file in (found.evaluation, found.audit, found.measured / "bench.json") for word in ("--with", file)
    ]
    run("report", found.bundle, "-o", found.whole, *given, "--against", found.old)
    return found


def run(*arguments: object, code: int = 0) -> None:
    done = command_line(list(map(str, arguments)))
    assert done.returncode == code, done.stderr
