"""The answer to one DICOM film becomes DICOM objects: a structured report, and on request a picture beside it.

    film's bytes -> whose it is (`source`) \\
    Prediction, Bundle -> content, TID 1500  -> Comprehensive 3D SR of that study       -> bytes
    evidence (h, w, K) -> `views.overlay`    -> Secondary Capture of it, where asked for -> bytes

As IHE's profile AI Results asks: findings in TID 1501 groups, the algorithm in each (TID 4019) and as contributing
equipment with a Device UID of its own for each bundle. Written by highdicom (extra: dicom-out).
"""

from __future__ import annotations

import hashlib
import io
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import edgecxr
from edgecxr.bundle import Bundle
from edgecxr.errors import ResultRefused, UnavailableError, UsageError
from edgecxr.pictures.decode import decode
from edgecxr.records.prediction import Prediction
from edgecxr.views import overlay

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

    from edgecxr.clinic.source import Source

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Under which all UIDs here are derived (RFC 9562, version 5); any other would do, as long as it never changes.
_NAMESPACE = uuid.UUID("0c9c24c9-c93a-5c5e-9d4f-1b8f0a4de1a7")
_SERIES = {"report": 9701, "evidence": 9702}  # numbers that no modality's own series have

# SNOMED CT, by a label in small letters. Its own name of COVID-19 is longer than Code Meaning's 64 characters. Other
# labels are codes of our own, under the label itself.
FINDINGS = {
    "covid": ("840539006", "COVID-19"),
    "covid_19": ("840539006", "COVID-19"),
    "normal": ("17621005", "Normal"),
    "viral_pneumonia": ("75570004", "Viral pneumonia"),
}
SCHEME = "99EDGECXR"
YES, NO = ("373066001", "Yes"), ("373067005", "No")  # CID 230
CHEST_FILM = ("399208008", "Plain chest X-ray")


@dataclass(frozen=True)
class ResultObject:
    """A DICOM object that tells a result."""

    sop_instance_uid: str
    sop_class_uid: str
    data: bytes  # a whole DICOM file (PS3.10) of explicit VR little endian


def dicom_results(
    dicom: bytes,
    prediction: Prediction,
    bundle: Bundle,
    *,
    evidence: npt.NDArray[np.float32] | None = None,
) -> list[ResultObject]:
    """The objects that tell `prediction`, the answer of `bundle` to the film `dicom` (a DICOM file's bytes).

    A Comprehensive 3D SR for a scored or abstained film; none for a rejected one. With `evidence` (h, w, K), as
    `scoring.pipeline.explain` gives it beside the prediction, a scored film has a second object behind it, a Secondary
    Capture of the film and its evidence map; without (the default) nothing points at places.

    Pure: UIDs follow from the film's SOP Instance UID and the bundle's digest, dates are the study's, so that the same
    film and answer give the same bytes. `prediction` may be one that was read back from a record.

    Raises UsageError where `dicom` isn't the film that the prediction is of (by SHA-256), or the bundle not the one that
    made it; ResultRefused where no result can be bound to the film (it doesn't say its UIDs, or whose it is can't be
    read for certain); and UnavailableError without the extra `dicom-out`.
    """
    if prediction.status == "rejected":
        return []
    if prediction.sha256 != hashlib.sha256(dicom).hexdigest():
        raise UsageError("a result goes with the film that was scored, and these bytes have another hash")
    if prediction.provenance.bundle_sha256 != bundle.digest:
        raise UsageError(f"the prediction was made by another bundle than was given: {bundle.path}")
    try:
        from edgecxr.clinic import source
    except ImportError as error:
        raise UnavailableError(
            f"results as DICOM need the extra 'dicom-out'; run: pip install 'edgecxr[cpu,dicom-out]' ({error})"
        ) from None
    film = source.read(dicom)
    results = [_finished(_report(film, prediction, bundle), film, bundle)]
    if evidence is not None and prediction.label is not None:
        pixels = decode(dicom, bundle.preprocessing).pixels
        drawn = overlay.side_by_side(pixels.astype(np.uint8), evidence[..., bundle.labels.index(prediction.label)])
        results.append(_finished(_capture(film, prediction, bundle, drawn), film, bundle))
    return results


def result_uid(film: str, bundle_sha256: str, what: str = "report") -> str:
    """The SOP Instance UID of the report (or `evidence`) on the film of that UID, by the bundle of that digest."""
    return _uid(what, film, bundle_sha256)


def _uid(*parts: str) -> str:
    """A UID of PS3.5, B.2: 2.25 and a UUID as a decimal number."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(parts)).int}"


def _made(film: Source, prediction: Prediction) -> datetime:
    """When a result is dated: as the study is, for the film's clock is the only one that a study's times compare with,
    and the answer follows from film and bundle alone. The record tells when it was computed."""
    return film.made or datetime.fromisoformat(prediction.time_utc).replace(tzinfo=None)


def _report(film: Source, prediction: Prediction, bundle: Bundle) -> Dataset:
    from highdicom import sr

    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=_uid("device", bundle.digest), name="edgecxr", manufacturer_name="edgecxr", model_name=bundle.name
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(
                observer_type=_dcm("121007", "Device"), observer_identifying_attributes=observer
            )
        ),
        procedure_reported=_sct(*CHEST_FILM),
        imaging_measurements=_groups(film, prediction, bundle),
    )
    # highdicom copies the content and walks it twice, for the images that it refers to: half of the time. All of ours
    # refer to one film, so one group stands for them until the document is there.
    every = content[0].ContentSequence
    content[0].ContentSequence = [every[-1].ContentSequence[0].ContentSequence[-1]]
    made = _made(film, prediction)
    report = sr.Comprehensive3DSR(
        evidence=[film.evidence()],
        content=content[0],
        is_complete=True,  # preliminary and unverified, as highdicom has it unless told otherwise
        content_date=made.date(),
        content_time=made.time(),
        **_series(film, bundle, "report"),
        series_description="edgecxr, research use",
    )
    report.ContentSequence = every
    return report


def _series(film: Source, bundle: Bundle, what: str) -> dict[str, Any]:
    """A series of one object, of its own for each film: what all objects of a series share never contradicts itself."""
    return {
        "series_instance_uid": _uid("series", what, film.sop_instance, bundle.digest),
        "series_number": _SERIES[what],
        "sop_instance_uid": result_uid(film.sop_instance, bundle.digest, what),
        "instance_number": 1,
        "manufacturer": "edgecxr",
        "manufacturer_model_name": bundle.name,
        "software_versions": [f"edgecxr {edgecxr.__version__}", f"{bundle.name} {bundle.version}"],
        "device_serial_number": bundle.digest,
        "specific_character_set": "ISO_IR 192",
    }


def _groups(film: Source, prediction: Prediction, bundle: Bundle) -> list[Any]:
    """The answer, and where there is one each class with its probability; TID 1501."""
    from highdicom import sr

    def group(name: str, label: str | None = None, **what: Any) -> Any:
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                uid=_uid("tracking", name, film.sop_instance, bundle.digest), identifier=name
            ),
            algorithm_id=_algorithm(prediction, bundle, label),
            source_images=[sr.SourceImageForMeasurementGroup(film.sop_class, film.sop_instance)],
            **what,
        )

    def number(name: Code, value: float) -> Any:
        from pydicom.sr.codedict import codes

        return sr.Measurement(name=name, value=value, unit=codes.UCUM.NoUnits)

    said = [
        sr.QualitativeEvaluation(
            _own("abstained", "Abstained from an answer"), _sct(*(NO if prediction.label else YES))
        )
    ]
    if prediction.label is not None:
        said.append(sr.QualitativeEvaluation(_own("answer", "Most probable class"), finding(prediction.label)))
    distance = []
    if prediction.ood_score is not None:
        distance.append(number(_own("ood_score", "Distance from films like those trained on"), prediction.ood_score))
    groups = [group("answer", qualitative_evaluations=said, measurements=distance or None)]
    # A film that the model doesn't know as one has probabilities in its record, which are worth nothing to a reader.
    for label in bundle.labels if prediction.label is not None else ():
        groups.append(
            group(
                label,
                label,
                finding_type=finding(label),
                measurements=[number(_dcm("122157", "Probability"), prediction.probabilities[label])],
                qualitative_evaluations=[
                    sr.QualitativeEvaluation(
                        _own("most_probable", "Is the most probable class"),
                        _sct(*(YES if label == prediction.label else NO)),
                    )
                ],
            )
        )
    return groups


def _algorithm(prediction: Prediction, bundle: Bundle, label: str | None) -> Any:
    """What answered, and how, with the operating points of `label`; TID 4019."""
    from highdicom import sr

    made = prediction.provenance
    points = [
        f"p >= {point.threshold:.6g}: sensitivity {point.sensitivity:.4f}, specificity {point.specificity:.4f}, on "
        f"{point.pictures} pictures of {point.split}"
        for point in bundle.operating_points
        if point.label == label
    ]
    return sr.AlgorithmIdentification(
        name=bundle.name,
        version=bundle.version,
        family=_dcm("123110", "Artificial Intelligence"),
        parameters=[
            f"bundle SHA-256: {bundle.digest}",
            f"engine: {made.engine}, {made.provider}, on {made.device}",
            f"precision: {made.precision}",
            f"calibration: temperature {bundle.temperature:.6g}",
            *([f"operating points: {'; '.join(points)}"] if points else []),
        ],
    )


def finding(label: str) -> Code:
    """What a label is called in a report."""
    known = FINDINGS.get(label.casefold().replace(" ", "_").replace("-", "_"))
    return _sct(*known) if known else _own(label, label)


def _own(value: str, meaning: str) -> Code:
    return _code(value, SCHEME, meaning)


def _dcm(value: str, meaning: str) -> Code:
    return _code(value, "DCM", meaning)


def _sct(value: str, meaning: str) -> Code:
    return _code(value, "SCT", meaning)


def _code(value: str, scheme: str, meaning: str) -> Code:
    from pydicom.sr.coding import Code

    return Code(value, scheme, meaning)


def _capture(film: Source, prediction: Prediction, bundle: Bundle, drawn: overlay.Pixels) -> Dataset:
    """The Secondary Capture of what was drawn, (H, W, 3)."""
    from highdicom.sc import SCImage

    made = _made(film, prediction)
    capture = SCImage(
        pixel_array=drawn,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # which it wants; taken back below
        study_instance_uid=film.study,
        content_date=made.date(),
        content_time=made.time(),
        **_series(film, bundle, "evidence"),
        series_description=f"edgecxr evidence for {prediction.label}"[:50] + ", research use",
    )
    capture.PatientOrientation = None  # two films beside each other have none, and the source may not say its own
    capture.BodyPartExamined = "CHEST"  # unpaired, so that Laterality needn't be there
    capture.BurnedInAnnotation = "YES"
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DerivationDescription = (
        "The film, and the evidence for its most probable class over it (class activation map)"
    )
    capture.ImageComments = "For research use. Not a segmentation."
    reference = type(film.evidence())()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = film.sop_class, film.sop_instance
    capture.SourceImageSequence = [reference]
    return capture


def _finished(result: Dataset, film: Source, bundle: Bundle) -> ResultObject:
    """The object as one of the film's patient and study, as bytes."""
    from highdicom.base_content import ContributingEquipment
    from pydicom.filewriter import dcmwrite
    from pydicom.sr.codedict import codes

    film.take_over(result)
    # When a library ran is no part of an answer, and would make another object of it each time.
    del result.InstanceCreationDate, result.InstanceCreationTime
    for item in result.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    algorithm = ContributingEquipment(
        "edgecxr",
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=bundle.name,
        software_versions=bundle.version,
        contribution_description="The algorithm whose results these are",
    )
    algorithm.DeviceUID = _uid("device", bundle.digest)
    result.ContributingEquipmentSequence.append(algorithm)
    file = io.BytesIO()
    dcmwrite(file, result, enforce_file_format=True)
    return ResultObject(str(result.SOPInstanceUID), str(result.SOPClassUID), file.getvalue())
