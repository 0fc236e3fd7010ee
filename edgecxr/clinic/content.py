"""What a report says of an answer: TID 1500, made by highdicom once for all films of a kind, and filled in for each.

Of a report's 800 elements all but some dozens are the same for every film that the same engine answers with the same
class. Built and encoded anew, a report took 33 ms of a CPU, half of what the answer itself does; filled in, as the
document around it is, it takes 3.

    Kind (bundle, engine, class) -> content with marks in it -> bytes, kept -> marks replaced -> bytes of one film's
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import format_number_as_ds

from edgecxr.bundle import Bundle
from edgecxr.bundle.reader import OperatingPoint
from edgecxr.records.prediction import Prediction, Provenance

# SNOMED CT, by a label in small letters. Its own name of COVID-19 is longer than Code Meaning's 64 characters. Other
# labels are codes of our own, under the label itself.
FINDINGS = {
    "covid": Code("840539006", "SCT", "COVID-19"),
    "covid_19": Code("840539006", "SCT", "COVID-19"),
    "normal": Code("17621005", "SCT", "Normal"),
    "viral_pneumonia": Code("75570004", "SCT", "Viral pneumonia"),
}
SCHEME = "99EDGECXR"
CHEST_FILM = Code("399208008", "SCT", "Plain chest X-ray")
PROBABILITY = Code("122157", "DCM", "Probability")

# PS3.6: of the elements that are filled in.
_SOP_CLASS, _SOP_INSTANCE, _UID = 0x00081150, 0x00081155, 0x0040A124
_NUMERIC_VALUE, _FLOATING_POINT_VALUE = 0x0040A30A, 0x0040A161


@dataclass(frozen=True)
class Kind:
    """What reports have in common, beside the numbers."""

    name: str
    version: str
    bundle_sha256: str
    labels: tuple[str, ...]
    temperature: float
    operating_points: tuple[OperatingPoint, ...]
    device_uid: str
    made_by: Provenance
    label: str | None  # the answer; None of an abstained film
    has_distance: bool  # whether how far a film is from those that the model knows was measured

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that a report tells. A film that the model doesn't know as one has probabilities in its record, which
        are worth nothing to a reader."""
        return self.labels if self.label is not None else ()


def kind(prediction: Prediction, bundle: Bundle, device_uid: str) -> Kind:
    return Kind(
        bundle.name,
        bundle.version,
        bundle.digest,
        bundle.labels,
        bundle.temperature,
        bundle.operating_points,
        device_uid,
        prediction.provenance,
        prediction.label,
        prediction.ood_score is not None,
    )


def encoded(what: Kind, prediction: Prediction, film: tuple[str, str], tracking_uid: Callable[[str], str]) -> bytes:
    """The Content Sequence of a report as explicit VR little endian, the last element of a report.

    `film` is its SOP Class and SOP Instance UID; `tracking_uid` gives a UID to a name of what is measured.
    """
    data = _template(what)
    numbers = [prediction.probabilities[label] for label in what.classes]
    if prediction.ood_score is not None:
        numbers.append(prediction.ood_score)
    uids = [tracking_uid(name) for name in ("answer", *what.classes)]
    for mark, value in zip(_elements(*_marks(what)), _elements(film, uids, numbers), strict=True):
        data = data.replace(mark, value)
    return data


def _marks(what: Kind) -> tuple[tuple[str, str], list[str], list[float]]:
    """What stands in the template for the film, the tracking UIDs and the numbers: nothing that is ever true of one."""
    trackings, numbers = 1 + len(what.classes), len(what.classes) + what.has_distance
    film = ("2.25.990000001", "2.25.990000002")
    return film, [f"2.25.98{n:07}" for n in range(trackings)], [-1e9 - n for n in range(numbers)]


def _elements(film: tuple[str, str], uids: list[str], numbers: list[float]) -> Iterator[bytes]:
    """Each element that is filled in, encoded."""
    for tag, uid in ((_SOP_CLASS, film[0]), (_SOP_INSTANCE, film[1]), *((_UID, uid) for uid in uids)):
        yield _element(tag, b"UI", uid.encode("ascii") + b"\0" * (len(uid) % 2))
    for number in numbers:
        text = format_number_as_ds(number)
        yield _element(_NUMERIC_VALUE, b"DS", text.encode("ascii") + b" " * (len(text) % 2))
        yield _element(_FLOATING_POINT_VALUE, b"FD", struct.pack("<d", number))


def _element(tag: int, vr: bytes, value: bytes) -> bytes:
    """PS3.5, 7.1.2, of a representation with 16 bits of length."""
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


@lru_cache(maxsize=64)  # of 20 KB
def _template(what: Kind) -> bytes:
    film, uids, numbers = _marks(what)
    content = Dataset()
    content.ContentSequence = _report(what, film, uids, numbers)[0].ContentSequence
    _without_lengths(content)
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, False
    content.SpecificCharacterSet = "ISO_IR 192"
    write_dataset(file, content)
    data: bytes = file.getvalue()
    data = data[data.index(struct.pack("<HH2s", 0x0040, 0xA730, b"SQ")) :]
    # A mark that stayed would be a result: where another version of highdicom writes these otherwise, there is none.
    images = len(what.classes) + 1
    expected = [images, images, *[1] * (len(uids) + 2 * len(numbers))]
    if [data.count(mark) for mark in _elements(film, uids, numbers)] != expected:
        raise RuntimeError("highdicom writes a report in another way than this version of edgecxr fills in")
    return data


def _without_lengths(dataset: Dataset) -> None:
    """Have sequences and items end with a delimiter, so that what is in them may change its length."""
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _without_lengths(item)


def _report(what: Kind, film: tuple[str, str], uids: list[str], numbers: list[float]) -> Any:
    """The content with these values, as highdicom has it."""
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=what.device_uid, name="edgecxr", manufacturer_name="edgecxr", model_name=what.name
    )
    return sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, observer)
        ),
        procedure_reported=CHEST_FILM,
        imaging_measurements=_groups(what, film, uids, numbers),
    )


def _groups(what: Kind, film: tuple[str, str], uids: list[str], numbers: list[float]) -> list[Any]:
    """The answer, and where there is one each class with its probability; TID 1501."""

    def group(name: str, uid: str, label: str | None = None, **more: Any) -> Any:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier=name),
            algorithm_id=_algorithm(what, label),
            source_images=[sr.SourceImageForMeasurementGroup(*film)],
            **more,
        )

    def number(name: Code, value: float) -> Any:
        return sr.Measurement(name=name, value=value, unit=codes.UCUM.NoUnits)

    # Values speak for themselves: viewers show them without the names before them (dcmtk's dsr2html does).
    answer = finding(what.label) if what.label is not None else _own("abstained", "Abstained from an answer")
    distance = "Distance from films like those trained on"
    groups = [
        group(
            "answer",
            uids[0],
            qualitative_evaluations=[sr.QualitativeEvaluation(_own("answer", "Most probable class"), answer)],
            measurements=[number(_own("ood_score", distance), numbers[-1])] if what.has_distance else None,
        )
    ]
    for label, uid, probability in zip(what.classes, uids[1:], numbers, strict=False):
        first = label == what.label
        rank = _own("first", "Most probable class") if first else _own("later", "Less probable than another class")
        groups.append(
            group(
                f"probability of {label}",
                uid,
                label,
                finding_type=finding(label),
                measurements=[number(PROBABILITY, probability)],
                qualitative_evaluations=[sr.QualitativeEvaluation(_own("rank", "Rank among the classes"), rank)],
            )
        )
    return groups


def _algorithm(what: Kind, label: str | None) -> Any:
    """What answered, and how, with the operating points of `label`; TID 4019."""
    made = what.made_by
    points = [
        f"p >= {point.threshold:.6g}: sensitivity {point.sensitivity:.4f}, specificity {point.specificity:.4f}, on "
        f"{point.pictures} pictures of {point.split}"
        for point in what.operating_points
        if point.label == label
    ]
    return sr.AlgorithmIdentification(
        name=what.name,
        version=what.version,
        family=codes.DCM.ArtificialIntelligence,
        parameters=[
            f"bundle SHA-256: {what.bundle_sha256}",
            f"engine: {made.engine}, {made.provider}, on {made.device}",
            f"precision: {made.precision}",
            f"calibration: temperature {what.temperature:.6g}",
            *([f"operating points: {'; '.join(points)}"] if points else []),
        ],
    )


def finding(label: str) -> Code:
    """What a label is called in a report."""
    return FINDINGS.get(label.casefold().replace(" ", "_").replace("-", "_")) or _own(label, label)


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)
