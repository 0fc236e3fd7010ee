"""The questions that are asked of a data set for shortcuts, and what their answers mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgecxr.lab.audit.films import COLUMNS, PARTS, Films
from edgecxr.lab.audit.findings import PROVENANCE, Finding, Severity
from edgecxr.lab.audit.shortcuts import (
    MARGIN,
    MIN_GROUPS,
    Answer,
    Floats,
    Integers,
    Question,
    answer,
    ask,
    one_hot,
    picture_inputs,
    property_inputs,
)

MAX_PLACES = 50  # a column of more values names pictures or patients and no places
ALL, THUMBNAIL, FRAME = "all of these", "thumbnail", "thumbnail, centre blacked out"
OF_PLACES = (THUMBNAIL, FRAME, "border", "sharpness")  # what a place is asked to be told from

ACTIONS = {
    "size": "Bring all pictures to one size from equally large originals; a resized film still shows how large it was.",
    "format": "Save all classes in one format with the same kind of samples, from the originals.",
    "compression": "Code all classes anew with the same format and quality, after bringing them to one size.",
    "border": "Crop frames and padding off every class alike, and look at the outermost pixels of each class.",
    "mean grey": "Equalise brightness (say, scale every film by its own percentiles) and augment it in training.",
    "grey statistics": "Equalise windowing (say, scale every film by its own percentiles) and augment contrast.",
    "contrast": "Equalise windowing (say, scale every film by its own percentiles) and augment contrast.",
    "sharpness": "Reduce every film to the resolution of the softest source, save all alike, and augment with blur.",
    ALL: "Take away what the single properties above give away, then audit anew.",
    THUMBNAIL: "Take it as the figure to beat: only what a network tells beyond a blurred 64 px picture is detail.",
    FRAME: "The frame isn't the lungs: crop to the chest, hide text and collimation, and compare the network with "
    "this figure.",
}
PLACE_ACTION = (
    "A network sees where a film was made: give every class the same mixture of places, and report figures within one."
)


@dataclass(frozen=True)
class Probe:
    """A target, what it is told from, and how well; `within` names the only label or place looked at, if any."""

    target: str
    source: str
    within: str | None
    question: Question
    answer: Answer

    @property
    def severity(self) -> Severity:
        if not self.answer.clear(self.question.chance):
            return "ok"
        # The whole film shows the disease too: that it tells something is no fault of the data.
        return "note" if (self.target, self.source) == ("label", THUMBNAIL) else "warning"

    @property
    def title(self) -> str:
        among = f" among {self.within}" if self.within else ""
        return f"{self.target.capitalize()} told from {self.source}{among}"

    def finding(self) -> Finding:
        low, high = self.answer.interval
        action = ACTIONS.get(self.source, PLACE_ACTION) if self.target == "label" else PLACE_ACTION
        return Finding(
            ":".join(filter(None, (self.target, self.source, self.within))),
            self.severity,
            self.title,
            f"{self.answer.balanced_accuracy:.1%} balanced accuracy ({low:.1%}–{high:.1%}), "
            f"chance {self.question.chance:.1%}",
            action if self.severity != "ok" else "Nothing to do.",
            {
                "target": self.target,
                "source": self.source,
                "within": self.within,
                "classes": list(self.question.classes),
                "left_out": list(self.question.left_out),
                "pictures": len(self.question.rows),
                "groups": int(self.question.units.max()) + 1,
                "chance": self.question.chance,
                "balanced_accuracy": self.answer.balanced_accuracy,
                "interval95": list(self.answer.interval),
                "recall": dict(zip(self.question.classes, self.answer.recalls, strict=True)),
            },
            topic="shortcuts",
        )


def provenances(films: Films) -> list[str]:
    """The columns among `PROVENANCE` that hold several values, without one that divides the data as another does."""
    chosen: dict[Hashable, str] = {}
    for column in PROVENANCE:
        values = _values(films, column)
        if 1 < len(set(values)) <= MAX_PLACES:
            chosen.setdefault(_partition(values), column)
    return list(chosen.values())


def probe(
    films: Films, units: Integers, seed: int, progress: Callable[[int, int], None]
) -> tuple[list[Probe], list[Finding]]:
    """Every probe that the data allows, and a note for what it doesn't; progress is (done, total)."""
    plans = list(_plans(films))
    inputs: dict[str, Floats] = {}
    probes: list[Probe] = []
    notes: list[Finding] = []
    done, total = 0, sum(len(sources) for *_, sources in plans)
    for target, within, values, among, sources in plans:
        rows = np.array([i for i, of in enumerate(among) if within in (None, of)], dtype=np.intp)
        targets = [values[row] for row in rows]
        question = ask(targets, units[rows], rows, seed)
        if question is None:
            notes.append(_not_asked(target, within, targets))
        for source in sources:
            if question is not None:
                if source not in inputs:
                    inputs[source] = _inputs(films, source, seed)
                if inputs[source].shape[1]:
                    probes.append(Probe(target, source, within, question, answer(question, inputs[source], seed)))
                else:
                    notes.append(_not_told(target, source, films))
            done += 1
            progress(done, total)
    return probes, notes


def _plans(films: Films) -> Iterator[tuple[str, str | None, list[str], list[str], tuple[str, ...]]]:
    """(target, the only label or place looked at, the target's value for each film, its label or place, told from)"""
    labels = [example.label for example in films.examples]
    places = provenances(films)
    yield "label", None, labels, labels, (*COLUMNS, ALL, THUMBNAIL, FRAME, *places)
    asked: set[Hashable] = set()
    for column in places:
        values = _values(films, column)
        yield column, None, values, labels, OF_PLACES
        for label in sorted(set(labels)):
            # Within a class the disease is the same: what tells the places apart there is the place.
            inside = [value for value, of in zip(values, labels, strict=True) if of == label]
            question = (label, _partition(inside))
            if question not in asked and _several(inside):
                asked.add(question)
                yield column, label, values, labels, OF_PLACES
        for place in sorted(set(values)):
            # Within a place no place is told: what a thumbnail tells there is the figure that a network has to beat.
            if place and _several([label for label, of in zip(labels, values, strict=True) if of == place]):
                yield "label", place, labels, values, (THUMBNAIL,)


def _several(values: Sequence[str]) -> bool:
    return sum(count >= MIN_GROUPS for count in Counter(values).values()) > 1


def _values(films: Films, column: str) -> list[str]:
    return [example.columns.get(column, "") for example in films.examples]


def _partition(values: Sequence[str]) -> Hashable:
    """Equal for two columns that divide the pictures alike, whatever they call the parts."""
    order: dict[str, int] = {}
    return tuple(order.setdefault(value, len(order)) for value in values)


def _inputs(films: Films, source: str, seed: int) -> Floats:
    """What is known of all films, (N, columns)."""
    if source in films.properties:
        return property_inputs(films.properties[source])
    if source == ALL:
        return property_inputs(np.hstack([films.properties[name] for name in COLUMNS if name not in PARTS]))
    if source in (THUMBNAIL, FRAME):
        return picture_inputs(films.thumbnails, seed, black_centre=source == FRAME)
    return one_hot(_values(films, source))


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


def _not_told(target: str, column: str, films: Films) -> Finding:
    return Finding(
        f"{target}:not-told:{column}",
        "note",
        f"Whether the {target} can be told from {column}",
        "not applicable",
        f"Nothing can be said: no {column} has {MIN_GROUPS} pictures or more.",
        {"pictures": dict(Counter(_values(films, column)))},
    )


def margin_sentence() -> str:
    return (
        f"A shortcut is claimed where even the lower bound of the interval lies above chance by more than {MARGIN:.0%} "
        "of the way from chance to 100 %."
    )
