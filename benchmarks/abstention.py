"""What abstains, by kind and by source: with a kind or a source left out of the fit, and in the bundle that ships.

    python benchmarks/abstention.py RUN BUNDLE --data DATA --outliers DIR [--elsewhere DATA] [-o abstention.json]

RUN is what `edgecxr export` made BUNDLE of, with `--outliers DIR`. DIR's manifest says what may be learnt from (`use` =
`fit`) and what is only reported. A made kind (a film on its side, a negative, a crop) is reported by a fit that left
its way of altering films out; that is the float32 network, whose thresholds come from the half of dev that chose
nothing, as the bundle's do. The bundle's int8 artifact, fitted with all of them, stands beside it. Each source of films
is also left out by itself, of the films, the altered films and the thresholds.

Of --elsewhere, whose films are in no fit and no threshold, those without a twin in DATA are taken (`near_radiography`).
Labels that the run doesn't know are diseases: frontal films, of which the share that abstains has no aim.
Moments are kept in --cache. On two cores that have nothing else to do it takes about ten minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgecxr.bench import spread
from edgecxr.bundle import load
from edgecxr.engines import Engine
from edgecxr.engines.select import Asked, choices, make_engine, open_engine
from edgecxr.errors import PictureRejected
from edgecxr.lab.dataset import Example, read_dataset
from edgecxr.lab.evaluation.abstention import fit, threshold
from edgecxr.lab.evaluation.altered import WAYS
from edgecxr.lab.evaluation.intervals import wilson_interval
from edgecxr.lab.outliers import Outlier, read_outliers
from edgecxr.lab.run import Run, read_run
from edgecxr.lab.sources import read_datasets
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import Contract
from edgecxr_export import abstaining, labelled
from edgecxr_export.graphs import onnx_graph, ood
from edgecxr_export.graphs.deploy import reference_model
from edgecxr_export.labelled import DECIDING, Labelled, spread_over_origins

# The outliers' kinds that are made from films, and which way of altering training films is theirs.
WAY_OF = {
    "cxr_rotated90": "rotated",
    "cxr_rotated180": "rotated",
    "cxr_inverted": "inverted",
    "cxr_crop": "cropped",
    "cxr_dark_collimated": "collimated",
    "cxr_photo_of_film": "photographed",
}
BATCH = 8
MOST = 400  # films of a source whose moments are taken from a split
ROUNDS = 60  # of the timing: with and without the output in turn

Floats = npt.NDArray[np.floating]
Pictures = npt.NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--outliers", type=Path, required=True)
    parser.add_argument("--elsewhere", type=Path, action="append", default=[])
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    arguments.cache.mkdir(parents=True, exist_ok=True)
    run = read_run(arguments.run)
    data = labelled.load(run, arguments.data, arguments.cache)
    outliers = Shown(read_outliers(arguments.outliers), run.contract)
    report = {"what": "what abstains", "run": hashlib.sha256(run.weights.read_bytes()).hexdigest()}
    shipped = Shipped(arguments.bundle)
    lab = Lab(run, data, outliers, arguments.cache)
    report |= {
        "shipped": shipped.about,
        "kinds": by_kind(lab, shipped, outliers),
        "repositories": by_repository(lab, outliers),
        "films": kept_films(shipped, data, outliers, arguments.data, arguments.elsewhere, run),
        "left_out_sources": left_out_sources(lab),
        "rejected_outliers": outliers.rejected,
        "cost": shipped.cost(data.pictures[data.rows("test")[:1]]),
    }
    text = json.dumps(report, indent=1)
    if arguments.output:
        arguments.output.write_text(text + "\n")
        arguments.output.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))


class Shown:
    """The outliers that can be decoded, as network inputs."""

    def __init__(self, outliers: Sequence[Outlier], contract: Contract) -> None:
        kept, pictures, self.rejected = [], [], 0
        for outlier in outliers:
            picture = prepared(outlier.path, contract)
            if picture is None:
                self.rejected += 1
            else:
                kept.append(outlier)
                pictures.append(picture)
        self.outliers, self.pictures = tuple(kept), np.stack(pictures)

    def rows(self, wanted: Callable[[Outlier], bool]) -> list[int]:
        return [row for row, outlier in enumerate(self.outliers) if wanted(outlier)]

    def kinds(self, use: str) -> list[str]:
        return sorted({outlier.kind for outlier in self.outliers if outlier.use == use})


def prepared(path: Path, contract: Contract) -> Pictures | None:
    try:
        return images.prepare(images.decode(files.read(path), contract), contract)
    except PictureRejected:
        return None


class Shipped:
    """The bundle's int8 artifact on ONNX Runtime, as a device runs it."""

    def __init__(self, path: Path) -> None:
        bundle = load(path)
        (choice,) = choices(bundle, Asked(engine="onnxruntime", device="cpu", precision="int8"))[0]
        assert bundle.abstention is not None
        (row,) = [
            row
            for row in bundle.abstention.thresholds
            if (row.artifact, row.engine, row.precision) == (choice.artifact.file, choice.engine, choice.precision)
        ]
        self.contract, self._threshold = bundle.preprocessing, row.threshold
        self._model, self._engine = bundle.read(choice.artifact.file), open_engine(bundle, choice, 2)
        self.about = {
            "model": f"{bundle.name} {bundle.version}",
            "bundle_sha256": bundle.digest,
            "artifact": choice.artifact.file,
            "threshold": row.threshold,
            "kept": bundle.abstention.kept,
            "pictures": bundle.abstention.pictures,
        }

    def abstained(self, pictures: Pictures) -> npt.NDArray[np.bool_]:
        """(N,) of network inputs (N, H, W)."""
        parts = [self._engine.run(pictures[start : start + BATCH, ..., None]).ood for start in starts(pictures)]
        found: npt.NDArray[np.bool_] = np.concatenate([part for part in parts if part is not None])[:, 0]
        return found >= self._threshold

    def cost(self, picture: Pictures) -> dict[str, Any]:
        """What the output costs: ms of a call with and without it, in turn, on one thread."""
        model = onnx.load_from_string(self._model)
        del model.graph.output[2:]
        engines = [
            make_engine("onnxruntime", data, "cpu", "int8", 1)
            for data in (self._model, onnx_graph.serialise(onnx_graph.canonical(model), {}))
        ]
        times: list[list[float]] = [[], []]
        for _ in range(ROUNDS):
            for place, engine in enumerate(engines):
                times[place].append(call(engine, picture[..., None]))
        with_it, without = (float(np.median(each)) for each in times)
        least = [min(each) for each in times]
        return {"with_ms": with_it, "without_ms": without, "least_with_ms": least[0], "least_without_ms": least[1]}


def call(engine: Engine, picture: Pictures) -> float:
    begin = time.perf_counter()
    engine.run(picture)
    return 1e3 * (time.perf_counter() - begin)


class Lab:
    """Fits of the float32 network's moments, each with something left out."""

    def __init__(self, run: Run, data: Labelled, outliers: Shown, cache: Path) -> None:
        self._model = ood.extractor(reference_model(run), run.recipe)
        self._key = hashlib.sha256(run.weights.read_bytes()).hexdigest()[:16]
        self._cache, self._data = cache, data
        examples = data.dataset.examples
        rows, altered = (spread_over_origins(examples, count) for count in (abstaining.FILMS, abstaining.ALTERED))
        self._films = self.moments("films", data.pictures[np.asarray(rows)])
        self._film_sources = np.array([examples[row].source for row in rows])
        self._altered = {
            way: self.moments(f"altered-{way}", abstaining.altered_films(data.pictures, altered, way)) for way in WAYS
        }
        self._altered_sources = np.array([examples[row].source for row in altered])
        self.outliers = self.moments("outliers", outliers.pictures)
        self._shown = {
            (outlier.kind, outlier.source): outliers.rows(
                lambda other, same=outlier: (other.kind, other.source, other.use) == (same.kind, same.source, "fit")
            )
            for outlier in outliers.outliers
            if outlier.use == "fit"
        }
        self._dev, self._dev_sources = self.of_films(DECIDING)

    def of_films(self, part: str) -> tuple[Floats, npt.NDArray[np.str_]]:
        """(moments (N, D), sources (N,)) of a part of the run's data: of each source at most MOST films."""
        members: dict[str, list[int]] = {}
        for row in self._data.rows(part):
            members.setdefault(self._data.dataset.examples[row].source, []).append(row)
        rows = [own[place] for own in members.values() for place in spread(len(own), MOST)]
        sources = np.array([self._data.dataset.examples[row].source for row in rows])
        return self.moments(part.replace(" ", "-"), self._data.pictures[np.asarray(rows)]), sources

    def moments(self, name: str, pictures: Pictures) -> Floats:
        """(N, D), from the cache where the same network has seen the same pictures."""
        content = hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()[:16]
        file = self._cache / f"moments-{self._key}-{content}.npy"
        if not file.is_file():
            print(f"{name}: {len(pictures)} pictures …", flush=True)
            found = self._model.predict(pictures[..., None], batch_size=BATCH, verbose=0)
            np.save(file, np.asarray(found, dtype=np.float32))
        kept: Floats = np.load(file)
        return kept

    def judge(
        self, *, way: str | None = None, repository: str | None = None, source: str | None = None
    ) -> Callable[[Floats], npt.NDArray[np.bool_]]:
        """Of moments (N, D) which abstain, (N,), by a fit without that way, repository of outliers, source of films."""
        unlike = {
            name: values[self._altered_sources != source] for name, values in self._altered.items() if name != way
        }
        kinds: dict[str, list[int]] = {}
        for (kind, place), rows in self._shown.items():
            if place != repository:
                kinds.setdefault(kind, []).extend(rows)
        unlike |= {kind: self.outliers[rows] for kind, rows in kinds.items()}
        score = fit(self._films[self._film_sources != source], unlike)
        limit = threshold(score.of(self._dev[self._dev_sources != source])).value
        return lambda moments: score.of(moments) >= limit


def starts(pictures: Pictures) -> range:
    return range(0, len(pictures), BATCH)


def share(abstained: npt.NDArray[np.bool_]) -> dict[str, Any]:
    hits, total = int(abstained.sum()), len(abstained)
    return {"abstained": hits, "pictures": total, "interval95": wilson_interval(hits, total)}


def by_kind(lab: Lab, shipped: Shipped, outliers: Shown) -> list[dict[str, Any]]:
    """Every kind that is only reported, and all of them together."""
    found = []
    parts: list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]] = []
    judges = {way: lab.judge(way=way) for way in {None, *WAY_OF.values()}}
    for kind in outliers.kinds("report"):
        rows = outliers.rows(lambda outlier, kind=kind: (outlier.kind, outlier.use) == (kind, "report"))
        way = WAY_OF.get(kind)
        own = judges[way](lab.outliers[rows]), shipped.abstained(outliers.pictures[rows])
        parts.append(own)
        near = any(outliers.outliers[row].near for row in rows)
        left_out = way or ""
        found.append({"kind": kind, "near": near, "left_out": left_out, "fit": share(own[0]), "shipped": share(own[1])})
    everything = [share(np.concatenate([part[side] for part in parts])) for side in (0, 1)]
    return [
        *found,
        {"kind": "all of these", "near": False, "left_out": "", "fit": everything[0], "shipped": everything[1]},
    ]


def by_repository(lab: Lab, outliers: Shown) -> list[dict[str, Any]]:
    """Every kind that is learnt from, by a fit without its repository; and every way of altering films, likewise."""
    found = []
    for repository in sorted({outlier.source for outlier in outliers.outliers if outlier.use == "fit"}):
        judge = lab.judge(repository=repository)
        for kind in outliers.kinds("fit"):
            rows = outliers.rows(
                lambda other, kind=kind, place=repository: (other.kind, other.use, other.source) == (kind, "fit", place)
            )
            if rows:
                near = any(outliers.outliers[row].near for row in rows)
                found.append(
                    {"repository": repository, "kind": kind, "near": near, "fit": share(judge(lab.outliers[rows]))}
                )
    return found


def kept_films(
    shipped: Shipped,
    data: Labelled,
    outliers: Shown,
    folders: Sequence[Path],
    elsewhere: Sequence[Path],
    run: Run,
) -> list[dict[str, Any]]:
    """What the bundle turns away of frontal films: of test by source, the control, other sources, other diseases."""
    rows = data.rows("test")
    sources = [data.dataset.examples[row].source for row in rows]
    found = []
    for source in sorted(set(sources)):
        own = [row for row, name in zip(rows, sources, strict=True) if name == source]
        found.append({"films": "test", "of": source, **share(shipped.abstained(data.pictures[np.asarray(own)]))})
    rows = outliers.rows(lambda outlier: outlier.use == "control")
    found.append({"films": "control", "of": "", **share(shipped.abstained(outliers.pictures[rows]))})
    for folder in elsewhere:
        films = [e for e in read_dataset(folder).examples if not e.columns.get("near_radiography")]
        found += by_label(shipped, f"elsewhere: {folder.resolve().name}", films, lambda e: e.source)
    ill = [e for e in read_datasets(folders).examples if e.label not in run.labels]
    found += by_label(shipped, "diseases the model doesn't know", ill, lambda e: e.label)
    return found


def by_label(
    shipped: Shipped, films: str, examples: Sequence[Example], named: Callable[[Example], str]
) -> list[dict[str, Any]]:
    found = []
    for name in sorted({named(example) for example in examples}):
        pictures = [prepared(example.path, shipped.contract) for example in examples if named(example) == name]
        shown = np.stack([picture for picture in pictures if picture is not None])
        found.append({"films": films, "of": name, **share(shipped.abstained(shown))})
    return found


def left_out_sources(lab: Lab) -> list[dict[str, Any]]:
    """Of each source's test films which abstain by a fit and thresholds that have seen no film of it."""
    moments, sources = lab.of_films("test")
    return [
        {"source": str(source), **share(lab.judge(source=str(source))(moments[sources == source]))}
        for source in sorted(set(sources))
    ]


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    lines = [
        "# What abstains",
        "",
        f"`{report['shipped']['artifact']}` of {report['shipped']['model']}, which keeps "
        f"{report['shipped']['kept']:.1%} of {report['shipped']['pictures']} clean dev films. Intervals are Wilson's "
        "95 %.",
        "",
        "## By kind",
        "",
        "| kind, only reported | near | left out of the fit | turned away | interval | as it ships | interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["kinds"]:
        near, left_out = "near" if row["near"] else "", row["left_out"]
        lines.append(f"| {row['kind']} | {near} | {left_out} | {cells(row['fit'])} | {cells(row['shipped'])} |")
    lines += [
        "",
        "## With its repository left out",
        "",
        "| repository | kind | near | turned away | interval |",
        "|---|---|---|---|---|",
    ]
    for row in report["repositories"]:
        near = "near" if row["near"] else ""
        lines.append(f"| {row['repository']} | {row['kind']} | {near} | {cells(row['fit'])} |")
    lines += [
        "",
        "## Frontal films that are turned away, as it ships",
        "",
        "| films | of | turned away | interval |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row['films']} | {row['of']} | {cells(row)} |" for row in report["films"]]
    lines += [
        "",
        "## Test films of a source that is left out of the fit and its thresholds",
        "",
        "| source | turned away | interval |",
        "|---|---|---|",
    ]
    lines += [f"| {row['source']} | {cells(row)} |" for row in report["left_out_sources"]]
    cost = report["cost"]
    lines += [
        "",
        f"A call of the int8 artifact on one thread takes {cost['with_ms']:.2f} ms with the output and "
        f"{cost['without_ms']:.2f} without (medians, in turn; the fastest of each {cost['least_with_ms']:.2f} and "
        f"{cost['least_without_ms']:.2f}).",
    ]
    return "\n".join(lines) + "\n"


def cells(row: dict[str, Any]) -> str:
    low, high = row["interval95"]
    hits, total = row["abstained"], row["pictures"]
    return f"{hits} of {total} ({hits / total:.1%}) | {100 * low:.1f}–{100 * high:.1f} %"


if __name__ == "__main__":
    main()
