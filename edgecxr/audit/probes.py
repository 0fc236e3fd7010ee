"""The questions that are asked of a data set for shortcuts, and what their answers mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.audit.films import COLUMNS, Films
from edgecxr.audit.findings import PROVENANCE, Finding
from edgecxr.audit.shortcuts import MARGIN, MIN_GROUPS, Answer, Floats, Question, answer, ask, one_hot, picture_inputs

ACTIONS = {
    "size": "Bring all pictures to one size from equally large originals; a resized picture still shows how large it was.",
    "format": "Save all classes in one format with the same kind of samples, from the originals.",
    "compression": "Code all classes anew with the same format and quality, after bringing them to one size.",
    "border": "Crop frames and padding off every class alike, and look at the outermost pixels of each class.",
    "mean grey": "Equalise brightness (for example scale every film by its own percentiles) and augment it in training.",
    "grey statistics": "Equalise windowing (for example scale every film by its own percentiles) and augment contrast.",
    "all of these": "Take away what the single properties above give away, then audit anew.",
    "thumbnail": "Take it as the figure to beat: only what a network tells beyond a blurred 64 px picture is detail.",
    "thumbnail, centre blacked out": "The frame isn't the lungs: crop to the chest, hide text and collimation, and "
    "compare the network with this figure.",
}
ORIGIN_ACTION = (
    "A network sees where a film was made: give every class the same mixture of places, and report figures within one."
)


@dataclass(frozen=True)
class Probe:
    """A target, what it is told from, and how well; `within` names the only label that was looked at, if any."""

    target: str
    source: str
    within: str | None
    question: Question
    answer: Answer

    @property
    def clear(self) -> bool:
        return self.answer.clear(self.question.chance)

    @property
    def title(self) -> str:
        among = f" among {self.within}" if self.within else ""
        return f"{self.target.capitalize()} told from {self.source}{among}"

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "source": self.source,
            "within": self.within,
            "title": self.title,
            "classes": list(self.question.classes),
            "left_out": list(self.question.left_out),
            "pictures": len(self.question.rows),
            "groups": int(self.question.units.max()) + 1,
            "chance": self.question.chance,
            "balanced_accuracy": self.answer.balanced_accuracy,
            "interval95": list(self.answer.interval),
            "recall": dict(zip(self.question.classes, self.answer.recalls, strict=True)),
            "clear": self.clear,
        }

    def finding(self) -> Finding:
        low, high = self.answer.interval
        figure = (
            f"{self.answer.balanced_accuracy:.1%} balanced accuracy ({low:.1%}–{high:.1%}), "
            f"chance {self.question.chance:.1%}"
        )
        action = ACTIONS.get(self.source, ORIGIN_ACTION) if self.target == "label" else ORIGIN_ACTION
        identity = ":".join(filter(None, (self.target, self.source, self.within)))
        severity = "warning" if self.clear else "ok"
        return Finding(
            identity, severity, self.title, figure, action if self.clear else "Nothing to do.", self.to_json()
        )


def provenances(films: Films) -> list[str]:
    """The columns among `PROVENANCE` that hold several values, without one that divides the data as another does."""
    chosen: dict[tuple[int, ...], str] = {}
    for column in PROVENANCE:
        values = [example.columns.get(column, "") for example in films.examples]
        order: dict[str, int] = {}
        shape = tuple(order.setdefault(value, len(order)) for value in values)
        if len(order) > 1:
            chosen.setdefault(shape, column)
    return list(chosen.values())


def probe(
    films: Films, units: npt.NDArray[np.intp], seed: int, progress: Callable[[float], None]
) -> tuple[list[Probe], list[Finding]]:
    """Every probe that the data allows, and a note for each target that it doesn't."""
    plans = list(_plans(films))
    rows = np.arange(len(films))
    probes: list[Probe] = []
    notes: list[Finding] = []
    done, total = 0, sum(len(sources) for *_, sources in plans)
    for target, within, values, sources in plans:
        chosen = rows if within is None else rows[[e.label == within for e in films.examples]]
        question = ask([values[row] for row in chosen], units[chosen], chosen, seed)
        if question is None:
            notes.append(_not_asked(target, within, [values[row] for row in chosen]))
        for source in sources:
            if question is not None:
                inputs, pictures = _inputs(films, source)
                told = answer(question, inputs, seed, pictures=pictures)
                probes.append(Probe(target, source, within, question, told))
            done += 1
            progress(done / total)
    return probes, notes


def _plans(films: Films) -> Iterator[tuple[str, str | None, list[str], tuple[str, ...]]]:
    """(target, the only label looked at, its value for each film, what it is to be told from)"""
    views = ("thumbnail", "thumbnail, centre blacked out")
    labels = [example.label for example in films.examples]
    places = provenances(films)
    yield "label", None, labels, (*COLUMNS, "all of these", *views, *places)
    for column in places:
        values = [example.columns.get(column, "") for example in films.examples]
        yield column, None, values, views
        for label in sorted(set(labels)):
            # Within a class the disease is the same: what tells the places apart there is the place.
            counts = Counter(value for value, of in zip(values, labels, strict=True) if of == label)
            if sum(count >= MIN_GROUPS for count in counts.values()) > 1:
                yield column, label, values, views


def _inputs(films: Films, source: str) -> tuple[Floats, bool]:
    """(N, columns), and whether they are pixels."""
    if source in films.properties:
        return films.properties[source], False
    if source == "all of these":
        return np.hstack([films.properties[name] for name in COLUMNS if name != "mean grey"]), False
    if source.startswith("thumbnail"):
        return picture_inputs(films.thumbnails, black_centre=source != "thumbnail"), True
    return one_hot([example.columns.get(source, "") for example in films.examples]), False


def _not_asked(target: str, within: str | None, values: Sequence[str]) -> Finding:
    among = f" among {within}" if within else ""
    return Finding(
        f"{target}:not-asked" + (f":{within}" if within else ""),
        "note",
        f"Whether the {target} can be told{among} from what shows no disease",
        "not applicable",
        f"Nothing can be said: it takes two classes of {MIN_GROUPS} groups or more.",
        {"pictures": dict(Counter(values))},
    )


def margin_sentence() -> str:
    return (
        f"A shortcut is claimed where even the lower bound of the interval lies above chance by more than {MARGIN:.0%} "
        "of the way from chance to 100 %."
    )
