"""How far do changes that nobody sees move the answers?

    python benchmarks/unseen_changes.py DATA [-m BUNDLE] [--split test] [--where COLUMN=VALUE] [--films 400] [-o FILE]

Each film's network input is coded anew as JPEG, given noise of half a grey level to two, made a grey level brighter or
moved by a pixel, and scored again. Counted are the films whose class changes, with a 95 % Wilson interval, the right
ones before and after, and how far the logits move, as a share of how far a film's lie apart
(`edgecxr_export.parity.logits`): the scale by which the export judges an int8 file. A network that half a grey level
moves is moved by any rounding. Needs the extra train.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgecxr.bench import spread
from edgecxr.bundle import load
from edgecxr.cli.extras import conditions
from edgecxr.engines.select import Asked
from edgecxr.errors import DataError, PictureRejected
from edgecxr.lab.dataset import read_dataset
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session, open_session
from edgecxr_export.parity.logits import errors

Image8 = npt.NDArray[np.uint8]


def recoded(quality: int) -> Callable[[Image8, np.random.Generator], Image8]:
    def change(image: Image8, _: np.random.Generator) -> Image8:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), np.uint8)

    return change


def noisy(sigma: float) -> Callable[[Image8, np.random.Generator], Image8]:
    return lambda image, rng: limited(image + rng.normal(0.0, sigma, image.shape))


def limited(values: npt.NDArray[Any]) -> Image8:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# uint8 (H, W) and a generator -> uint8 (H, W)
CHANGES: dict[str, Callable[[Image8, np.random.Generator], Image8]] = {
    "JPEG, quality 95": recoded(95),
    "JPEG, quality 75": recoded(75),
    "noise of 0.5 grey levels": noisy(0.5),
    "noise of 1 grey level": noisy(1.0),
    "noise of 2 grey levels": noisy(2.0),
    "a grey level brighter": lambda image, _: limited(image.astype(int) + 1),
    "a pixel to the right": lambda image, _: np.concatenate([image[:, :1], image[:, :-1]], axis=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--split", default="test", help="test, or all where the data has none")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE")
    parser.add_argument("--films", type=int, default=400, help="evenly chosen")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    session = open_session(load(arguments.model), Asked(precision=arguments.precision), workers=1)
    try:
        dataset = read_dataset(arguments.data).where(conditions(arguments.where))
        examples = dataset.examples if arguments.split == "all" else dataset.split(arguments.split)
    except DataError as error:
        parser.error(str(error))
    known = [example for example in examples if example.label in session.bundle.labels]
    if not known:
        parser.error(f"no film of {', '.join(session.bundle.labels)} in {arguments.data}, split {arguments.split}")
    inputs, classes = [], []
    for index in spread(len(known), arguments.films):
        try:
            inputs.append(pipeline.prepare_input(session, known[index].path))
        except PictureRejected:
            continue
        classes.append(session.bundle.labels.index(known[index].label))
    report = {
        "what": "changes that nobody sees, and what they do to the answers",
        "model": f"{session.bundle.name} {session.bundle.version}",
        "bundle_sha256": session.bundle.digest,
        "engine": session.engine.name,
        "precision": session.engine.precision,
        "data": arguments.data.name,
        "split": arguments.split,
        "where": arguments.where,
        "films": len(inputs),
        **measured(session, inputs, np.array(classes)),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def measured(session: Session, inputs: list[Image8], classes: npt.NDArray[np.integer]) -> dict[str, Any]:
    """Films that are right; after each change: other classes, right ones, mean and 99th percentile of `errors`."""
    before = logits(session, inputs)
    found: dict[str, Any] = {}
    for name, change in CHANGES.items():
        after = logits(session, [change(image, np.random.default_rng(n)) for n, image in enumerate(inputs)])
        flips = int((after.argmax(axis=1) != before.argmax(axis=1)).sum())
        moved = errors(after, before)
        found[name] = {
            "other_class": flips,
            "interval": wilson_interval(flips, len(inputs)),
            "right": int((after.argmax(axis=1) == classes).sum()),
            "mean_of_spread": float(moved.mean()),
            "p99_of_spread": float(np.percentile(moved, 99)),
        }
    return {"right": int((before.argmax(axis=1) == classes).sum()), "changes": found}


def logits(session: Session, inputs: list[Image8]) -> npt.NDArray[np.float32]:
    return np.concatenate([session.engine.run(image[None, ..., None]).logits for image in inputs])


if __name__ == "__main__":
    main()
