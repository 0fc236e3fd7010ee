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
import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import edgecxr
from edgecxr.bundle import Bundle
from edgecxr.classifier import Classifier
from edgecxr.errors import PictureRejected, UnavailableError, UsageError
from edgecxr.pictures import files
from edgecxr.pictures.decode import decode
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.views import overlay

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

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
    from edgecxr.clinic import source

    film = source.read(dicom)
    results = [_report(film, prediction, bundle)]
    if evidence is not None and prediction.label is not None:
        pixels = decode(dicom, bundle.preprocessing).pixels
        drawn = overlay.side_by_side(pixels.astype(np.uint8), evidence[..., bundle.labels.index(prediction.label)])
        results.append(_finished(_capture(film, prediction, bundle, drawn), film, bundle))
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


def _report(film: Source, prediction: Prediction, bundle: Bundle) -> ResultObject:
    """The structured report: a document that refers to the film, and behind it its content, the last of elements."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    from edgecxr.clinic import content

    kind = content.kind(prediction, bundle, _uid("device", bundle.digest))
    root = sr.ContainerContentItem(name=codes.cid7021.ImagingMeasurementReport, template_id="1500")
    root.ContentSequence = sr.ContentSequence([sr.SourceImageForMeasurementGroup(film.sop_class, film.sop_instance)])
    made = _made(film, prediction)
    report: Dataset = sr.Comprehensive3DSR(
        evidence=[film.evidence()],
        content=root,
        is_complete=True,  # preliminary and unverified, as highdicom has it unless told otherwise
        content_date=made.date(),
        content_time=made.time(),
        **_series(film, bundle, "report"),
        series_description="edgecxr, research use",
    )
    del report.ContentSequence
    document = _finished(report, film, bundle)
    told = content.encoded(
        kind,
        prediction,
        (film.sop_class, film.sop_instance),
        lambda name: _uid("tracking", name, film.sop_instance, bundle.digest),
    )
    return replace(document, data=document.data + told)


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


def _capture(film: Source, prediction: Prediction, bundle: Bundle, drawn: overlay.Pixels) -> Dataset:
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
        **_series(film, bundle, "evidence"),
        series_description=f"edgecxr evidence for {prediction.label}"[:50] + ", research use",
    )
    del capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture  # as InstanceCreationDate in `_finished`
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
