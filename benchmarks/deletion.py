"""Does the answer rest on what the evidence map points at?

    python benchmarks/deletion.py DATA/darkcovidnet [-m BUNDLE] [--where near_radiography=] [--films 100] [-o FILE.json]

The deletion curve (Petsiuk, Das and Saenko, "RISE", BMVC 2018): the places with the most evidence for a film's answer
are blacked out in the network's input, and as many elsewhere in the same shape: the same places, moved as one (around
the edges) to where they meet the first ones least. If the map shows what the answer rests on, the first falls faster.
Figures are means over films; intervals are 95 %, by bootstrap over groups (patients). Needs the extra eval.

A black patch is nothing that a film has, so that both curves fall: only their difference says something of the map.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.bundle import load
from edgecxr.cli.extras import conditions
from edgecxr.engines.select import Asked
from edgecxr.errors import DataError, PictureRejected
from edgecxr.lab.dataset import Example, read_dataset
from edgecxr.lab.evaluation.bootstrap import draws
from edgecxr.lab.evaluation.intervals import percentile_interval
from edgecxr.scoring import pipeline
from edgecxr.scoring.postprocess import probabilities
from edgecxr.scoring.session import Session, open_session

SHARES = (0.05, 0.1, 0.2, 0.4)  # of the map's places
ELSEWHERE = 3  # places of the same shape that are tried for each film and share
REPLICATES = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE")
    parser.add_argument("--films", type=int, default=100, help="as many of each class as of the other, by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    session = open_session(load(arguments.model), Asked(precision=arguments.precision), workers=1)
    labels = session.bundle.labels
    try:
        examples = read_dataset(arguments.data).where(conditions(arguments.where)).examples
    except DataError as error:
        parser.error(str(error))
    films = sample([e for e in examples if e.label in labels], arguments.films, arguments.seed)
    if not films:
        parser.error(f"no film of {', '.join(labels)} in {arguments.data}")
    rows, rejected = [], 0
    for number, example in enumerate(films):
        try:
            image = pipeline.prepare_input(session, example.path)
        except PictureRejected:
            rejected += 1
            continue
        rows.append((example, deleted(session, image, np.random.default_rng((arguments.seed, number)))))
    report = {
        "what": "the deletion curve: the top evidence blacked out, and as much elsewhere",
        "model": f"{session.bundle.name} {session.bundle.version}",
        "bundle_sha256": session.bundle.digest,
        "precision": session.engine.precision,
        "engine": session.engine.name,
        "data": arguments.data.name,
        "where": arguments.where,
        "seed": arguments.seed,
        "rejected": rejected,
        **figures([example for example, _ in rows], [found for _, found in rows], arguments.seed),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def sample(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """`count` of them, by chance, as many of each label as of the other where there are; one of a group."""
    rng = np.random.default_rng(seed)
    order = [examples[index] for index in rng.permutation(len(examples))]
    first = list({example.group: example for example in reversed(order)}.values())[::-1]
    by_label = [[e for e in first if e.label == label] for label in sorted({e.label for e in first})]
    taken: list[Example] = []
    while len(taken) < count and any(by_label):
        taken += [films.pop(0) for films in by_label if films]
    return taken[:count]


def deleted(session: Session, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(SHARES, 2, 2): for the top evidence and for elsewhere, how much less probable the answer is, and whether it is
    another; `image` is the network's input, uint8 (H, W)."""
    outputs = session.engine.run(image[None, ..., None])
    before = probabilities(outputs.logits[0], session.bundle.temperature)
    answer = int(before.argmax())
    evidence = outputs.evidence[0, ..., answer]  # (h, w)
    found = np.zeros((len(SHARES), 2, 2))
    for row, share in enumerate(SHARES):
        top = top_places(evidence, share)
        for column, masks in enumerate(([top], elsewhere(top, ELSEWHERE, rng))):
            blacked = np.stack([np.where(grown(mask, image.shape), 0, image) for mask in masks]).astype(np.uint8)
            after = [
                probabilities(session.engine.run(one[None, ..., None]).logits[0], session.bundle.temperature)
                for one in blacked
            ]
            drops = [before[answer] - p[answer] for p in after]
            found[row, column] = np.mean(drops), np.mean([int(p.argmax()) != answer for p in after])
    return found


def top_places(evidence: np.ndarray, share: float) -> np.ndarray:
    """(h, w) bool: the `share` of the places with the most evidence."""
    count = max(1, round(share * evidence.size))
    mask = np.zeros(evidence.size, dtype=bool)
    mask[np.argsort(-evidence, axis=None, kind="stable")[:count]] = True
    return mask.reshape(evidence.shape)


def elsewhere(mask: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """`count` moves of `mask` (h, w) around the edges, by chance among those that meet it least."""
    moved = [np.roll(mask, (y, x), (0, 1)) for y in range(mask.shape[0]) for x in range(mask.shape[1]) if y or x]
    meets = np.array([(other & mask).sum() for other in moved])
    least = np.flatnonzero(meets <= np.sort(meets)[min(count, len(meets)) - 1])
    return [moved[index] for index in rng.choice(least, min(count, len(least)), replace=False)]


def grown(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(h, w) as (H, W): each place covers its share of the picture."""
    rows, columns = (np.arange(size) * small // size for size, small in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def figures(films: Sequence[Example], found: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    """Means with their intervals, of all films and of each label."""
    values = np.stack(found)  # (N, SHARES, 2, 2)
    groups = np.unique([film.group for film in films], return_inverse=True)[1]
    labels = np.array([film.label for film in films])
    report: dict[str, Any] = {
        "films": len(films),
        "groups": int(groups.max()) + 1,
        "curve": curve(values, groups, seed),
    }
    for label in sorted(set(labels)):
        own = labels == label
        inverse = np.unique(groups[own], return_inverse=True)[1]
        report.setdefault("by_label", {})[label] = {"films": int(own.sum()), "curve": curve(values[own], inverse, seed)}
    return report


def curve(values: np.ndarray, groups: np.ndarray, seed: int) -> list[dict[str, Any]]:
    rows = []
    for index, share in enumerate(SHARES):
        row: dict[str, Any] = {"blacked_out": share}
        for what, name in enumerate(("drop", "other_answer")):
            top, other = values[:, index, 0, what], values[:, index, 1, what]
            for title, sample_ in (("top", top), ("elsewhere", other), ("difference", top - other)):
                row[f"{name}_{title}"] = {"mean": float(sample_.mean()), "interval95": interval(sample_, groups, seed)}
        rows.append(row)
    return rows


def interval(values: np.ndarray, groups: np.ndarray, seed: int) -> list[float] | None:
    """Of the mean of `values` (N,), by resampling groups (N,)."""
    if len(np.unique(groups)) < 2:
        return None
    ones = np.ones(len(values))
    means = np.concatenate([d.total(values) / d.total(ones) for d in draws(groups, REPLICATES, seed)])
    found = percentile_interval(means)
    return None if found is None else list(found)


if __name__ == "__main__":
    main()
