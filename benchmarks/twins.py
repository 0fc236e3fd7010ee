"""Do originals as devices meet them get the answer of their small twins from the training data's source?

    python benchmarks/twins.py ORIGINALS TWINS [-m BUNDLE] [-o twins.json]

ORIGINALS is a folder whose manifest.csv names each picture's twin in `near_radiography`, TWINS the folder of the twins,
whose manifest.csv has splits. Only twins of the test split count: the answer to a film that was learnt shows little.
Measured with the bundle's own preprocessing and with its `source_size` switched the other way: the choice shows.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from edgecxr.bundle import Bundle, load
from edgecxr.errors import DataError
from edgecxr.lab.dataset import Dataset, read_dataset
from edgecxr.pictures import decode as images
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session

TRAINING_SIZE = 224  # px; to switch source_size on for a bundle that has none


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path)
    parser.add_argument("twins", type=Path)
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    try:
        found = pairs(read_dataset(arguments.originals), read_dataset(arguments.twins))
    except DataError as error:
        parser.error(str(error))
    originals, twins = ([pair[side] for pair in found] for side in (0, 1))
    bundle = load(arguments.model)
    own = bundle.preprocessing
    other = replace(own, source_size=None if own.source_size else TRAINING_SIZE)
    report = {
        "what": "originals against their small twins",
        "model": f"{bundle.name} {bundle.version}",
        "bundle_sha256": bundle.digest,
        "split": "test",
        "pairs": len(found),
        "as_shipped": compare(bundle, originals, twins),
        "source_size_switched": compare(replace(bundle, preprocessing=other), originals, twins),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def pairs(originals: Dataset, twins: Dataset) -> list[tuple[Path, Path]]:
    """(original, twin) of every twin in the test split; raises DataError where there is none."""
    tested = {example.file: example.path for example in twins.split("test")}
    named = [(e.path, e.columns.get("near_radiography", "")) for e in originals.examples]
    found = [(path, tested[twin]) for path, twin in named if twin in tested]
    if not found:
        raise DataError(f"no picture of {originals.folder} has a twin in the test split of {twins.folder}")
    return found


def compare(bundle: Bundle, originals: list[Path], twins: list[Path]) -> dict[str, object]:
    """Label agreement, change of probability, and how alike the network's inputs are, over the pairs."""
    session = open_session(bundle)
    answers = [list(pipeline.stream(session, paths)) for paths in (originals, twins)]
    shares = [np.array([list(p.probabilities.values()) for p in side]) for side in answers]
    change = np.abs(shares[0] - shares[1]).max(axis=1)
    agree = [bool(same) for same in shares[0].argmax(axis=1) == shares[1].argmax(axis=1)]
    inputs = [[images.network_input(path, bundle.preprocessing) for path in paths] for paths in (originals, twins)]
    detail = [fine_detail(a) / fine_detail(b) for a, b in zip(*inputs, strict=True)]
    return {
        "source_size": bundle.preprocessing.source_size,
        "precision": session.artifact.precision,
        "agree": sum(agree),
        "total": len(agree),
        "agreement": sum(agree) / len(agree),
        "disagreeing": [path.name for path, same in zip(originals, agree, strict=True) if not same],
        "max_dp": float(change.max()),
        "p95_dp": float(np.percentile(change, 95)),
        "mean_dp": float(change.mean()),
        "mean_input_difference_grey_levels": float(
            np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(*inputs, strict=True)])
        ),
        "fine_detail_ratio": float(np.median(detail)),
    }


def fine_detail(image: np.ndarray) -> float:
    """Standard deviation, in grey levels, of what a reduction to half size and back takes away."""
    half = Image.fromarray(image).resize((image.shape[1] // 2, image.shape[0] // 2), Image.Resampling.BOX)
    back = half.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
    return float((image.astype(float) - np.asarray(back)).std())


if __name__ == "__main__":
    main()
