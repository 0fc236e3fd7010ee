"""Where the time of one picture goes: read, decode, preprocess, run, post."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.scoring import pipeline
from edgecxr.scoring.postprocess import probabilities
from edgecxr.scoring.session import Session

STAGES = ("read", "decode", "preprocess", "run", "post")


class StageClock:
    """One file after the other, step by step as the pipeline takes them, each step timed; in one thread.

    read: bytes and their SHA-256; decode: to grey pixels; preprocess: to the network's input; run: the engine; post:
    probabilities, and the record as it is written.
    """

    def __init__(self, session: Session, paths: Sequence[Path]) -> None:
        self._session = session
        self._turns = itertools.cycle(paths)
        self._template = pipeline.score(session, [paths[0]])[0]
        self.seconds: list[tuple[float, ...]] = []  # a row a call, in the order of STAGES

    def __call__(self) -> None:
        bundle, labels = self._session.bundle, self._session.bundle.labels
        now: Callable[[], float] = time.perf_counter
        times = [now()]
        data = files.read(next(self._turns))
        sha256 = hashlib.sha256(data).hexdigest()
        times.append(now())
        picture = images.decode(data, bundle.preprocessing)
        times.append(now())
        image = images.prepare(picture, bundle.preprocessing)  # (H, W)
        times.append(now())
        logits = self._session.engine.run(image[None, ..., None])[0]  # (K,)
        times.append(now())
        share = probabilities(logits, bundle.temperature)
        record = replace(
            self._template,
            sha256=sha256,
            label=labels[int(share.argmax())],
            probabilities=dict(zip(labels, share.tolist(), strict=True)),
            logits=dict(zip(labels, logits.tolist(), strict=True)),
        )
        json.dumps(record.to_record(labels))
        times.append(now())
        self.seconds.append(tuple(np.diff(times).tolist()))

    def medians_ms(self) -> dict[str, float]:
        """The median of each stage in ms. Medians don't add up to the median of the whole."""
        return dict(zip(STAGES, (1e3 * np.median(self.seconds, axis=0)).tolist(), strict=True))
