"""Where the time of one picture goes: read, decode, preprocess, run, post."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session

STAGES = ("read", "decode", "preprocess", "run", "post")


class StageClock:
    """One file after the other by the pipeline's own steps, each of them timed; in one thread.

    read: bytes and their SHA-256; decode: to grey pixels; preprocess: to the network's input; run: the engine; post:
    probabilities, and the record as it is written.
    """

    def __init__(self, session: Session, paths: Sequence[Path]) -> None:
        self._session = session
        self._turns = itertools.cycle(paths)
        self.seconds: list[tuple[float, ...]] = []  # a row a call, in the order of STAGES

    def __call__(self) -> None:
        session, path = self._session, next(self._turns)
        now: Callable[[], float] = time.perf_counter
        times = [now()]
        item = pipeline.Item(path=str(path))
        data = pipeline.read(item, path)
        times.append(now())
        picture = pipeline.decode(session, item, data)
        times.append(now())
        pipeline.prepare(session, item, picture)
        times.append(now())
        outputs = pipeline.run(session, [item], 1)
        times.append(now())
        json.dumps(pipeline.predict(session, item, outputs[0]).to_record(session.bundle.labels))
        times.append(now())
        self.seconds.append(tuple(np.diff(times).tolist()))

    def medians_ms(self) -> dict[str, float]:
        """The median of each stage in ms. Medians don't add up to the median of the whole."""
        return dict(zip(STAGES, (1e3 * np.median(self.seconds, axis=0)).tolist(), strict=True))
