"""What one process of a cluster does: it holds a session, and makes a part of the records of a part of the listing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path, PurePosixPath

import edgecxr
from edgecxr.bundle import MANIFEST, NAMED, Bundle, load
from edgecxr.cluster import listing
from edgecxr.cluster.output import Part
from edgecxr.cluster.store import Listed, Store, is_address
from edgecxr.device.golden import self_test
from edgecxr.engines.select import ANYTHING, Asked
from edgecxr.errors import BundleError, UnavailableError
from edgecxr.records import parquet
from edgecxr.records.prediction import Prediction
from edgecxr.records.resume import TRIED_AGAIN, NameBy
from edgecxr.scoring import pipeline
from edgecxr.scoring.abstention import BUNDLES_OWN, Wish
from edgecxr.scoring.session import Session, open_session

# Of a record that --resume makes anew: the store, or a list of hashes, may be another by then.
AGAIN = frozenset({"unreadable", "read_timeout", *TRIED_AGAIN})


@dataclass(frozen=True)
class Parcel:
    """A bundle on its way to another machine: the name of an embedded one, or its files, each behind a call."""

    name: str
    digest: str
    files: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)


def pack(bundle: Bundle, *, golden: bool = False) -> dict[str, bytes]:
    """The files of a bundle that a session needs, with `golden` vectors or without; none of an embedded one."""
    if bundle.path in NAMED.values():
        return {}
    names = [artifact.file for artifact in bundle.artifacts]
    names += [file for file in bundle.files if golden and file.startswith("golden/")]
    manifest = {} if bundle.path != bundle.folder else {MANIFEST: json.dumps(bundle.manifest).encode()}
    return {**manifest, **{file: bundle.read(file) for file in names}}


@dataclass(frozen=True)
class Settings:
    """How every process of a run scores; what is pickled."""

    version: str  # of edgecxr, at whoever asks
    folder: str  # in which relative paths are
    asked: Asked = ANYTHING
    wish: Wish = BUNDLES_OWN
    name_by: NameBy = "path"
    workers: int = 1
    threads: int = 1
    batch_size: int | None = None
    self_test: bool = False
    stores: tuple[str, ...] = ()  # the addresses that were given, with what stands in them for the store alone


class Worker:
    """Opens its session once. Raises what `open_session` does, BundleError for another bundle than the one asked for,
    and UnavailableError where another version of edgecxr is installed here."""

    def __init__(self, settings: Settings, parcel: Parcel) -> None:
        if settings.version != edgecxr.__version__:
            raise UnavailableError(
                f"expected edgecxr {settings.version} on every node of the cluster, got {edgecxr.__version__}"
            )
        if Path(settings.folder).is_dir():  # as whoever asked has it: a path means the same here
            os.chdir(settings.folder)
        self._settings = settings
        self._session = _open(settings, parcel)
        self._stores = [Store(address) for address in settings.stores]

    def score(self, number: int, size: int, lines: bytes) -> Part:
        """The part `number` of parts of `size` inputs; `lines` are its own of the listing."""
        inputs = listing.inputs_of(lines)
        predictions = list(self._predictions(inputs))
        if self._settings.name_by == "hash":
            first = number * size + 1
            predictions = [prediction.without_name(first + row) for row, prediction in enumerate(predictions)]
        labels, made_by = self._session.bundle.labels, self._session.provenance
        table = io.BytesIO()
        parquet.write(table, (prediction.to_record(labels) for prediction in predictions), labels)
        return Part(
            table.getvalue(),
            len(predictions),
            Counter(prediction.status for prediction in predictions),
            Counter(prediction.label for prediction in predictions if prediction.label is not None),
            sum(prediction.error_code in AGAIN for prediction in predictions),
            dict(made_by.__dict__),
            dict(self._session.plan.__dict__),
        )

    def _predictions(self, inputs: Sequence[Listed]) -> Iterator[Prediction]:
        for store, group in groupby(inputs, self._store_of):
            listed = list(group)
            sources = (Path(file.path) for file in listed) if store is None else store.readings(listed)
            for file, prediction in zip(listed, pipeline.stream(self._session, sources), strict=True):
                yield replace(prediction, path=file.path)

    def _store_of(self, listed: Listed) -> Store | None:
        if not is_address(listed.path):
            return None
        return next(store for store in self._stores if store.holds(listed))


def _open(settings: Settings, parcel: Parcel) -> Session:
    with _unpacked(parcel) as path:
        bundle = load(path)
        if bundle.digest != parcel.digest:
            raise BundleError(
                f"expected the bundle of sha256 {parcel.digest[:12]}… on every node of the cluster, got "
                f"{bundle.digest[:12]}…"
            )
        session = open_session(
            bundle,
            settings.asked,
            workers=settings.workers,
            threads=settings.threads,
            batch_size=settings.batch_size,
            wish=settings.wish,
        )
        if settings.self_test:
            self_test(bundle, session.artifact, session.engine)
    return session


@contextlib.contextmanager
def _unpacked(parcel: Parcel) -> Iterator[str]:
    """What `load` takes; the files of a bundle are gone again afterwards, since a session holds its network."""
    if not parcel.files:
        yield parcel.name
        return
    with tempfile.TemporaryDirectory(prefix="edgecxr-") as scratch:
        folder = Path(scratch, parcel.name if MANIFEST in parcel.files else ".")
        for name, read in parcel.files.items():
            path = folder / PurePosixPath(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(read())
        yield str(folder if MANIFEST in parcel.files else folder / parcel.name)
