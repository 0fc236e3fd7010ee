"""`edgecxr calibrate`: what a bundle says of its answers, fitted on a site's labelled films; its network stays."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import edgecxr
from edgecxr.bundle import Bundle, load, thresholds
from edgecxr.bundle import reader as bundles
from edgecxr.engines.select import ANYTHING, Asked, Choice, choices
from edgecxr.errors import BundleError, DataError, UsageError
from edgecxr.lab.dataset import Dataset, Example, check_outside
from edgecxr.lab.evaluation import site
from edgecxr.lab.evaluation.bootstrap import Floats, Ints
from edgecxr.lab.evaluation.report import report
from edgecxr.lab.evaluation.score import Scored, check_ignored, score, select
from edgecxr.lab.evaluation.site import Claim
from edgecxr.lab.evaluation.temperature import fit_temperature
from edgecxr.lab.publish import check_place, publish
from edgecxr.lab.site_bundle import REPORT, Numbers, contents
from edgecxr.lab.sources import read_datasets
from edgecxr.lab.train import storage
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import abstention
from edgecxr.scoring.postprocess import probabilities
from edgecxr.scoring.session import Session, open_session, opened, plan_for
from edgecxr.system import machine

KEPT = 0.995  # of the films of each class, as an export keeps of all


@dataclass(frozen=True)
class Films:
    """A site's films, divided into those that fit and those that report; and what they may claim."""

    dataset: Dataset
    fit: tuple[Example, ...]
    report: tuple[Example, ...]
    claims: tuple[Claim, ...]
    seed: int

    @property
    def not_claimed(self) -> list[str]:
        return [claim.missing for claim in self.claims if not claim.possible]


@dataclass(frozen=True)
class _Half:
    """Scored films as arrays."""

    classes: Ints  # (N,)
    logits: Floats  # (N, K)
    groups: list[str]
    ood: Floats | None  # (N,)


def check_call(path: Path | None, output: Path, name: str, kept: float, overwrite: bool) -> Bundle:
    """The bundle to calibrate; raises UsageError and BundleError for what can't be carried out, before the films."""
    if not bundles.LABEL.fullmatch(name):
        raise UsageError(f"a site needs a plain name of at most 64 characters, got {name[:80]!r}")
    if not 0.5 <= kept < 1:
        raise UsageError(f"the share of films to be answered must be from 0.5 to below 1, got {kept:g}")
    check_place(output, overwrite=overwrite)
    bundle = load(path)
    bundle.golden_inputs()  # raises BundleError for a lone .onnx
    if REPORT in bundle.files:
        of = bundle.manifest.get("provenance", {}).get("site", {}).get("name", "a site")
        raise BundleError(f"calibrate needs a bundle as it was exported, this one is {of}'s already: {bundle.path}")
    if not bundles.LABEL.fullmatch(f"{bundle.version}+{name}"):
        raise UsageError(f"the version and the site's name together have at most 63 characters, got {name}")
    if output.resolve() == bundle.folder.resolve() or output.resolve().parent == bundles.EMBEDDED.resolve().parent:
        raise UsageError(f"a site's bundle takes the place of no bundle that it is or could be made from, got {output}")
    size = sum(length for _, length in bundle.files.values())
    storage.make_room(output.parent, size + (16 << 20), "the bundle's files")
    return bundle


def read_films(
    bundle: Bundle,
    folders: Sequence[Path],
    output: Path,
    conditions: Mapping[str, str],
    ignored: Sequence[str],
    *,
    kept: float = KEPT,
    seed: int = 0,
) -> Films:
    """A site's films and what they may claim, before one of them is scored.

    Films that the data call `train` are left out: a model is never surer than of what it has learnt. Raises UsageError,
    and DataError for films of one class, of a label that the bundle doesn't know, or too few to claim anything.
    """
    dataset = read_datasets(folders)
    check_outside(folders, output)
    check_ignored(ignored, dataset.labels, bundle.labels)
    chosen = [e for e in select(dataset.where(conditions), bundle.labels, "all", ignored) if e.split != "train"]
    labels = tuple(sorted({example.label for example in chosen}))
    fit, reports = site.halves(replace(dataset, examples=tuple(chosen), labels=labels), seed)
    found = site.claims(site.groups_of(fit), len({e.group for e in fit}), _share(bundle, kept))
    films = Films(dataset, fit, reports, found, seed)
    if not any(claim.possible for claim in found):
        raise _nothing(found, dataset)
    return films


def calibrate(
    bundle: Bundle,
    films: Films,
    output: Path,
    name: str,
    *,
    asked: Asked = ANYTHING,
    shape: Mapping[str, int | None] | None = None,
    kept: float = KEPT,
    overwrite: bool = False,
    advance: Callable[[int, int], Any] = lambda done, total: None,
) -> tuple[Bundle, dict[str, Any]]:
    """Write the site's bundle `output` and return it, opened and checked, with its report (reports/site.json).

    The networks' nodes and weights stay to the byte. Temperature and operating points are fitted on what `asked`
    answers, thresholds of abstention on every artifact and engine that is here. Of `shape` workers and threads count.
    `advance` is told how many of how many films are done, of each artifact anew. Raises DataError where nothing can be
    claimed once the films are scored, what scoring does, and what `publish` does; nothing is written then.
    """
    shape = shape or {}
    session = open_session(bundle, asked, workers=shape.get("workers"), threads=shape.get("threads"))
    content: dict[str, str] = {}
    scored = _scored(session, [*films.fit, *films.report], advance, content)
    files = {example.file for example in films.fit}
    fit, rest = (
        _half(bundle, scored, [row for row, e in enumerate(scored.examples) if (e.file in files) is first])
        for first in (True, False)
    )
    counted = site.claims(_groups(bundle, fit), site.wrong_groups(*_three(fit)), _share(bundle, kept))
    notes = [claim.missing for claim in counted if not claim.possible]
    there = {claim.label for claim in counted}
    notes += [f"nothing is claimed of {label}, there is no film of it" for label in bundle.labels if label not in there]
    numbers, facts = _fitted(bundle, fit, counted, notes)
    whose = [claim for claim in counted if claim.kind == "abstention"]
    if whose and all(claim.possible for claim in whose):
        fitting = [e for e in scored.examples if e.file in files]
        found = _abstention(bundle, session, fitting, fit, kept, shape, notes, advance)
        if found is not None:
            numbers, facts = replace(numbers, abstention=found[0]), {**facts, "abstention": found[1]}
    if not (facts["temperature"]["written"] or facts["operating_points"] or facts["abstention"]):
        raise _nothing(counted, films.dataset)
    told: dict[str, Any] = {
        "schema": 1,
        "site": name,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgecxr": edgecxr.__version__,
        "of": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "data": {
            "pictures": len(scored.examples),
            "groups": len({example.group for example in scored.examples}),
            "rejected": Counter(reason for _, reason in scored.rejected),
            "fingerprint": _fingerprint(scored.examples, content),
            "seed": films.seed,
            "fit": _counts(films.fit, content),
            "report": _counts(films.report, content),
        },
        "scored_by": {
            "artifact": session.artifact.file,
            **{key: getattr(session.provenance, key) for key in ("engine", "provider", "device", "precision")},
        },
        "claims": [{**asdict(claim), "possible": claim.possible} for claim in counted],
        "not_claimed": notes,
        **facts,
        "before": _reported(bundle, rest, Numbers.of(bundle), session, films.seed),
        "after": _reported(bundle, rest, numbers, session, films.seed),
    }
    made = publish(output, contents(bundle, numbers, told), overwrite)
    return made, told


def _fitted(bundle: Bundle, fit: _Half, claims: Sequence[Claim], notes: list[str]) -> tuple[Numbers, dict[str, Any]]:
    """Temperature and operating points; what isn't claimed stays the bundle's, and adds a sentence to `notes`."""
    found = fit_temperature(fit.logits, fit.classes)
    written = claims[0].possible and not found.at_bound
    if claims[0].possible and found.at_bound:
        notes.append(f"the temperature isn't claimed, its search ended at the bound {found.temperature:g}")
    temperature = found.temperature if written else bundle.temperature
    points = site.operating_points(bundle.labels, fit.classes, probabilities(fit.logits, temperature), fit.groups)
    own = {(point.label, point.target_sensitivity) for point in points}
    # At another temperature a threshold on the probability finds another share.
    kept = [p for p in bundle.operating_points if not written and (p.label, p.target_sensitivity) not in own]
    facts = {
        "temperature": {"written": written, "before": bundle.temperature, **asdict(found)},
        "operating_points": [asdict(point) for point in points],
        "abstention": None,
    }
    return replace(Numbers.of(bundle), temperature=temperature, operating_points=(*points, *kept)), facts


def _abstention(
    bundle: Bundle,
    session: Session,
    fitting: Sequence[Example],
    fit: _Half,
    kept: float,
    shape: Mapping[str, int | None],
    notes: list[str],
    advance: Callable[[int, int], Any],
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """`abstention` of the manifest, and each class's own thresholds; None where an artifact can't be run here.

    On the CPU, which alone runs every artifact.
    """
    able, not_run = choices(bundle, Asked(device="cpu"))
    missing = sorted({a.file for a in bundle.artifacts} - {choice.artifact.file for choice in able})
    if missing:
        why = "; ".join(reason for reason in not_run if reason.startswith(tuple(missing)))
        notes.append(f"no threshold of abstention is claimed, each artifact has to be run, got {why}")
        return None
    engine = session.engine
    known = (session.artifact.file, engine.name, engine.precision) if engine.device == "cpu" else None
    rows, detail = [], []
    for choice in able:
        ood = fit.ood
        if _names(choice) != known:
            one = opened(bundle, choice, plan_for(choice, machine.cpus(), **_shape(shape)))
            ood = _scored(one, fitting, advance, {}).ood
        assert ood is not None  # Bundle.read has found the output
        found = site.thresholds(bundle.labels, fit.classes, ood, fit.groups, kept)
        about = dict(zip(("artifact", "engine", "precision"), _names(choice), strict=True))
        rows.append({**about, "threshold": max(each.value for each in found.values())})
        detail.append({**about, "classes": {label: asdict(each) for label, each in found.items()}})
    manifest = {"kept": kept, "split": site.SPLIT, "pictures": len(fit.classes), "thresholds": rows}
    return manifest, {"kept": kept, "rows": detail}


def _names(choice: Choice) -> tuple[str, str, str]:
    return choice.artifact.file, choice.engine, choice.precision


def _shape(shape: Mapping[str, int | None]) -> dict[str, int | None]:
    return {key: shape.get(key) for key in ("workers", "threads")}


def _share(bundle: Bundle, kept: float) -> float | None:
    return kept if bundle.abstention else None


def _scored(
    session: Session,
    examples: Sequence[Example],
    advance: Callable[[int, int], Any],
    content: dict[str, str],
) -> Scored:
    """Films through the device's pipeline; `content` takes the SHA-256 of each file that was scored."""
    waiting, done = iter(examples), itertools.count(1)

    def heard(prediction: Prediction) -> None:
        file = next(waiting).file
        if prediction.logits and prediction.sha256:
            content[file] = prediction.sha256
        advance(next(done), len(examples))

    return score(session, examples, heard)


def _half(bundle: Bundle, scored: Scored, rows: Sequence[int]) -> _Half:
    examples = [scored.examples[row] for row in rows]
    return _Half(
        np.array([bundle.labels.index(example.label) for example in examples], dtype=np.int64),
        scored.logits[list(rows)],
        [example.group for example in examples],
        None if scored.ood is None else scored.ood[list(rows)],
    )


def _three(half: _Half) -> tuple[Ints, Floats, list[str]]:
    return half.classes, half.logits, half.groups


def _groups(bundle: Bundle, half: _Half) -> dict[str, int]:
    """Groups of scored films by label: films that were rejected claim nothing."""
    pairs = set(zip(half.classes.tolist(), half.groups, strict=True))
    counts = Counter(index for index, _ in pairs)
    return {bundle.labels[index]: count for index, count in sorted(counts.items())}


def _counts(half: Sequence[Example], scored: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Films that were scored, by each label of the half."""
    own = [example for example in half if example.file in scored]
    pictures, groups = Counter(example.label for example in own), site.groups_of(own)
    return {label: {"pictures": pictures[label], "groups": groups.get(label, 0)} for label in site.groups_of(half)}


def _fingerprint(examples: Sequence[Example], content: Mapping[str, str]) -> str:
    """SHA-256 over (content, label) of the scored films, in the order of their contents: no name is in it."""
    lines = sorted(json.dumps([content[example.file], example.label]) for example in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _reported(bundle: Bundle, half: _Half, numbers: Numbers, session: Session, seed: int) -> dict[str, Any]:
    """The report of `edgecxr eval` on the half that fitted nothing, of a bundle with these numbers."""
    chosen = Choice(session.artifact, session.engine.name, session.engine.device, session.engine.precision)
    own = thresholds.parse(numbers.abstention, [artifact.file for artifact in bundle.artifacts])
    return report(
        bundle.labels,
        half.classes,
        half.logits,
        numbers.temperature,
        half.groups,
        operating_points=numbers.operating_points,
        ood=half.ood,
        abstain_at=abstention.rule(own, chosen).threshold,
        sources=[bundle.labels[index] for index in half.classes],
        seed=seed,
    )


def _nothing(claims: Sequence[Claim], dataset: Dataset) -> DataError:
    wrong, first = claims[0], claims[1]
    own = ", ".join(f"{c.label} {c.there}" for c in claims if (c.kind, c.share) == (first.kind, first.share))
    return DataError(
        f"calibration needs {wrong.needed} groups (patients) that are answered wrongly for a temperature, or "
        f"{first.needed} groups of a class for its operating point, in the half of the films that fits; "
        f"got {wrong.there}, and of {own}: {dataset.name}"
    )
