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
import os
import struct
import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import edgecxr
from edgecxr.bundle import Bundle
from edgecxr.classifier import Classifier
from edgecxr.errors import PictureRejected, ResultRefused, UnavailableError, UsageError
from edgecxr.pictures import files
from edgecxr.pictures.decode import decode
from edgecxr.pictures.dicom.film import COMPUTED_RADIOGRAPHY
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.views import overlay

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from edgecxr.clinic.content import Kind
    from edgecxr.clinic.source import Source

COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# Under which all UIDs here are derived (RFC 9562, version 5); any other would do, as long as it never changes.
_NAMESPACE = uuid.UUID("0c9c24c9-c93a-5c5e-9d4f-1b8f0a4de1a7")
_SERIES = {"report": 9701, "evidence": 9702}  # numbers that no modality's own series have


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

    Raises UsageError where `dicom` isn't the film that the prediction is of (by SHA-256), or the bundle not the one
    that made it; ResultRefused where no result can be bound to the film (it doesn't say its UIDs, or whose it is can't
    be read for certain); and UnavailableError without the extra `dicom-out`.
    """
    if prediction.status == "rejected":
        return []
    if prediction.sha256 != hashlib.sha256(dicom).hexdigest():
        raise UsageError("a result goes with the film that was scored, and these bytes have another hash")
    if prediction.provenance.bundle_sha256 != bundle.digest:
        raise UsageError(f"the prediction was made by another bundle than was given: {bundle.path}")
    check_extra()
    from edgecxr.clinic import content, source

    film, kind = source.read(dicom), content.kind(prediction, bundle, _uid("device", bundle.digest))
    results = [_report(film, prediction, kind)]
    if evidence is not None and prediction.label is not None:
        pixels = decode(dicom, bundle.preprocessing).pixels
        drawn = overlay.side_by_side(pixels.astype(np.uint8), evidence[..., bundle.labels.index(prediction.label)])
        results.append(_capture(film, prediction, kind, drawn))
    return results


def answer(
    classifier: Classifier, film: str | os.PathLike[str] | bytes, *, heat_map: bool = False
) -> tuple[Prediction, list[ResultObject]]:
    """The prediction for one film, a path or its bytes, and the objects that tell it; with `heat_map` the picture too.

    No object for what is rejected, or isn't DICOM. Raises as `dicom_results`.
    """
    try:
        data = film if isinstance(film, bytes) else files.read(Path(film))
    except PictureRejected:
        return classifier.predict(film), []
    prediction, evidence = pipeline.explain(classifier.session, data)
    if not isinstance(film, bytes):
        prediction = replace(prediction, path=str(film))
    if prediction.rendering is None:
        return prediction, []
    return prediction, dicom_results(data, prediction, classifier.bundle, evidence=evidence if heat_map else None)


def check_extra() -> None:
    """Raise UnavailableError without the extra `dicom-out`; loads it."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"results as DICOM need the extra 'dicom-out'; run: pip install 'edgecxr[cpu,dicom-out]' ({error})"
        ) from None


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


def _report(film: Source, prediction: Prediction, kind: Kind) -> ResultObject:
    """The structured report: a document that refers to the film, and behind it its content, the last of elements."""
    from pydicom import dcmread
    from pydicom.valuerep import DA, TM

    from edgecxr.clinic import content

    report: Dataset = dcmread(io.BytesIO(_document(kind)))
    made = _made(film, prediction)
    report.ContentDate, report.ContentTime = DA(made.date()), TM(made.time())
    report.SeriesInstanceUID, report.SOPInstanceUID = _uids(film, kind, "report")
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    study.StudyInstanceUID, series.SeriesInstanceUID = film.study, film.series
    instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID = film.sop_class, film.sop_instance
    document = _written(report, film)
    told = content.encoded(
        kind,
        prediction,
        (film.sop_class, film.sop_instance),
        lambda name: _uid("tracking", name, film.sop_instance, kind.bundle_sha256),
    )
    return replace(document, data=document.data + told)


@lru_cache(maxsize=64)  # of 3 KB
def _document(kind: Kind) -> bytes:
    """A report without its content, on no film in particular, as a DICOM file by highdicom: its making took most of
    what a report took."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    from edgecxr.clinic.source import Source

    film = Source(COMPUTED_RADIOGRAPHY, "2.25.1", "2.25.2", "2.25.3", (), None)  # what is filled in, beside the dates
    root = sr.ContainerContentItem(name=codes.cid7021.ImagingMeasurementReport, template_id="1500")
    root.ContentSequence = sr.ContentSequence([sr.SourceImageForMeasurementGroup(film.sop_class, film.sop_instance)])
    report: Dataset = sr.Comprehensive3DSR(
        evidence=[film.evidence()],
        content=root,
        is_complete=True,  # preliminary and unverified, as highdicom has it unless told otherwise
        **_series(film, kind, "report"),
        series_description="edgecxr, research use",
    )
    del report.ContentSequence
    _finish(report, kind)
    return _written(report, film).data


def _uids(film: Source, kind: Kind, what: str) -> tuple[str, str]:
    """Of a series and its one object, of their own for each film: what all objects of a series share never contradicts
    itself."""
    series = _uid("series", what, film.sop_instance, kind.bundle_sha256)
    return series, result_uid(film.sop_instance, kind.bundle_sha256, what)


def _series(film: Source, kind: Kind, what: str) -> dict[str, Any]:
    series, instance = _uids(film, kind, what)
    return {
        "series_instance_uid": series,
        "series_number": _SERIES[what],
        "sop_instance_uid": instance,
        "instance_number": 1,
        "manufacturer": "edgecxr",
        "manufacturer_model_name": kind.name,
        "software_versions": [f"edgecxr {edgecxr.__version__}", f"{kind.name} {kind.version}"],
        "device_serial_number": kind.bundle_sha256,
        "specific_character_set": "ISO_IR 192",
    }


def _capture(film: Source, prediction: Prediction, kind: Kind, drawn: overlay.Pixels) -> ResultObject:
    """The Secondary Capture of what was drawn, (H, W, 3)."""
    from highdicom.sc import SCImage

    made = _made(film, prediction)
    capture: Dataset = SCImage(
        pixel_array=drawn,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # which it wants; taken back below
        study_instance_uid=film.study,
        content_date=made.date(),
        content_time=made.time(),
        **_series(film, kind, "evidence"),
        series_description=f"edgecxr evidence for {prediction.label}"[:50] + ", research use",
    )
    del capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture  # as InstanceCreationDate in `_finish`
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
    _finish(capture, kind)
    return _written(capture, film)


def _finish(result: Dataset, kind: Kind) -> None:
    """Say whose result it is, and leave out when a library ran: that is no part of an answer, and would make another
    object of it each time."""
    from highdicom.base_content import ContributingEquipment
    from pydicom.sr.codedict import codes

    del result.InstanceCreationDate, result.InstanceCreationTime
    for item in result.ContributingEquipmentSequence:
        item.pop("ContributionDateTime", None)
    algorithm = ContributingEquipment(
        "edgecxr",
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name=kind.name,
        software_versions=kind.version,
        contribution_description="The algorithm whose results these are",
    )
    algorithm.DeviceUID = kind.device_uid
    result.ContributingEquipmentSequence.append(algorithm)


def _written(result: Dataset, film: Source) -> ResultObject:
    """The object as one of the film's patient and study, as bytes; raises ResultRefused where it can't be written."""
    from pydicom.filewriter import dcmwrite

    file = io.BytesIO()
    try:
        film.take_over(result)
        dcmwrite(file, result, enforce_file_format=True)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
        # pydicom's, of whatever a film's elements hold.
        raise ResultRefused(f"the result can't be told as DICOM ({type(error).__name__})") from None
    return ResultObject(str(result.SOPInstanceUID), str(result.SOPClassUID), file.getvalue())
