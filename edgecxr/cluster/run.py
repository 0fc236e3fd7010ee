"""A run over a cluster: listed once, scored part by part, each part kept before the next; then the folder is whole."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

import edgecxr
from edgecxr.bundle import NAMED, Bundle
from edgecxr.cluster import listing, pool
from edgecxr.cluster.output import Header, Output, Place, check_asked, todo
from edgecxr.cluster.store import is_address, shown
from edgecxr.cluster.worker import Settings, pack
from edgecxr.engines.select import ANYTHING, Asked
from edgecxr.errors import UnavailableError
from edgecxr.records.prediction import SCHEMA
from edgecxr.scoring.abstention import BUNDLES_OWN, Wish
from edgecxr.system.signals import StopOnSignal

log = logging.getLogger(__name__)  # names no picture

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """What is scored and how; None where the cluster says."""

    paths: tuple[str, ...]
    recursive: bool = True
    limit: int | None = None
    asked: Asked = ANYTHING
    wish: Wish = BUNDLES_OWN
    name_by: Literal["path", "hash"] = "path"
    workers: int | None = None
    threads: int | None = None
    batch_size: int | None = None
    self_test: bool = False

    @property
    def on_gpus(self) -> bool:
        """Only where they were asked for: what `auto` would find differs from node to node."""
        return self.asked.device in ("cuda", "tensorrt")

    def said(self, bundle: Bundle) -> dict[str, Any]:
        """What makes the records what they are, as the journal keeps it: no secret of an address is in it, and with
        `hash` no name."""
        relative = any(not is_address(path) and not Path(path).is_absolute() for path in self.paths)
        paths = [shown(path) if is_address(path) else path for path in self.paths]
        places = {"paths": paths, "folder": str(Path.cwd()) if relative else None}
        if self.name_by == "hash":
            places = {"paths": hashlib.sha256(json.dumps(places).encode("ascii")).hexdigest()}
        return {
            "id": self.name_by,
            **places,
            "recursive": self.recursive,
            "limit": self.limit,
            "bundle_sha256": bundle.digest,
            "abstain": self.wish.abstain,
            "abstain_at": self.wish.at,
            "records_schema": SCHEMA,
        }


@dataclass
class Job:
    """What came of a run."""

    place: Place
    seconds: float = 0.0
    signal: int | None = None  # that ended it before its end
    resumed: int = 0  # records that were there and stayed
    skipped: int = 0
    parts: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    shape: dict[str, int] = field(default_factory=lambda: {"workers": 0, "threads": 0, "batch_size": 0})

    def summary(self) -> dict[str, Any]:
        records = sum(self.statuses.values())
        return {
            "records": records,
            "resumed": self.resumed,
            "statuses": dict(self.statuses),
            "labels": dict(self.labels),
            "skipped": self.skipped,
            "seconds": self.seconds,
            "pictures_per_second": (records - self.resumed) / self.seconds if self.seconds else 0.0,
            **self.made_by,
            **self.shape,
            "tuned": False,
            "notes": [],
            "interrupted": self.signal is not None,
            "parts": self.parts,
        }


def score(
    request: Request,
    bundle: Bundle,
    place: Place,
    address: str,
    *,
    overwrite: bool = False,
    going_on: bool = False,
    begin: Callable[[int, int], object] = lambda inputs, there: None,
    advance: Callable[[int], object] = lambda records: None,
) -> Job:
    """Score what was asked for on the Ray at `address`, into `place`.

    `begin` gets how many inputs there are and how many have their record, `advance` how many more have. Ctrl-C and
    SIGTERM end a run with every part that was finished kept. Raises what `listing`, `output` and `pool` raise.
    """
    started = time.perf_counter()
    job = Job(place)
    said = request.said(bundle)
    with Output(place, overwrite=overwrite, going_on=going_on) as output:
        anew = output.left.header is None
        found = listing.find(request.paths, recursive=request.recursive)
        if anew:  # what can't be listed is told before a cluster is waited for
            found = itertools.chain(list(itertools.islice(found, 1)), found)
        else:
            check_asked(output.header, said, output.folder)
        left = [] if anew else _todo(output)
        job.resumed = sum(entry.records for part, entry in output.left.entries.items() if part not in set(left))
        if anew or left:
            with pool.joined(address) as size:
                workers, settings = _shape(request, size)
                if anew:
                    inputs, skipped, sha256 = listing.write(output.folder, found, request.limit)
                    output.begin(Header(said, inputs, skipped, sha256, listing.part_size(inputs, workers)))
                    left = _todo(output)
                job.shape = {"workers": workers, "threads": settings.threads, "batch_size": settings.batch_size or 0}
                begin(output.header.inputs, job.resumed)
                crew = _crew(request, bundle, settings, workers)
                job.signal = _score(crew, output, set(left), job, advance)
        job.statuses, job.labels = output.counts()
        job.made_by = output.left.made_by or {}
        job.skipped, job.parts = output.header.skipped, len(output.left.entries)
        if job.signal is None:
            output.finish(drop=(listing.NAME,) if request.name_by == "hash" else ())  # it holds names
    job.seconds = time.perf_counter() - started
    return job


def _todo(output: Output) -> list[int]:
    header = output.header
    parts = listing.count_parts(header.inputs, header.part_size)
    again = (output.folder / listing.NAME).exists()  # else it is a whole one whose listing was dropped
    return todo(parts, output.left.entries, output.is_whole, again=again)


def _shape(request: Request, size: pool.Size) -> tuple[int, Settings]:
    """How many workers, and what each is: one thread on a CPU, or a GPU with its share of the CPUs to decode for it."""
    threads = request.threads or 1
    there = size.gpus if request.on_gpus else size.cpus // threads
    if not there:
        what = "a GPU" if request.on_gpus else f"{threads} CPUs"
        raise UnavailableError(f"expected {what} on a node of the cluster, got {size.cpus} CPUs and {size.gpus} GPUs")
    workers = min(request.workers or there, there)
    decoders = max(1, size.cpus // size.gpus) if request.on_gpus else 1
    asked = Asked(request.asked.engine, request.asked.device if request.on_gpus else "cpu", request.asked.precision)
    return workers, Settings(
        edgecxr.__version__,
        str(Path.cwd()),
        asked,
        request.wish,
        request.name_by,
        decoders,
        threads,
        request.batch_size,
        request.self_test,
        tuple(path for path in request.paths if is_address(path)),
    )


def _crew(request: Request, bundle: Bundle, settings: Settings, workers: int) -> pool.Pool:
    names = {path: name for name, path in NAMED.items()}
    name = names.get(bundle.path, bundle.path.name)
    files = pack(bundle, golden=request.self_test)
    return pool.Pool(settings, name, bundle.digest, files, workers, gpu=request.on_gpus)


def _score(
    crew: pool.Pool, output: Output, left: Collection[int], job: Job, advance: Callable[[int], object]
) -> int | None:
    """Have every part made that is `left` to do, and keep each; the signal that ended it before its end."""
    header = output.header
    log.info("%d of %d parts are to do", len(left), listing.count_parts(header.inputs, header.part_size))
    parts = listing.parts(output.folder, header.part_size, left, header.listing_sha256)
    waiting: SimpleQueue[Any] = SimpleQueue()
    stopped = StopOnSignal(lambda: waiting.put(None))
    with stopped:
        for number, part in _pulled(crew.results(parts, header.part_size), waiting):
            output.add(number, part)
            job.shape["batch_size"] = part.plan["batch_size"]
            advance(part.records)
    return stopped.signal


def _pulled(source: Iterator[T], waiting: SimpleQueue[Any]) -> Iterator[T]:
    """What `source` gives, waited for in a thread of its own: a None in the queue ends it, from a signal too."""

    def pull() -> None:
        try:
            for item in source:
                waiting.put(item)
            waiting.put(None)
        except BaseException as error:  # raised where it is waited for
            waiting.put(error)

    threading.Thread(target=pull, name="edgecxr-parts", daemon=True).start()
    while (item := waiting.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item
