"""The answer to one DICOM film becomes DICOM objects: a structured report, and on request a picture beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgecxr.bundle import Bundle
from edgecxr.records.prediction import Prediction


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

    Raises UsageError where `dicom` isn't the film that the prediction is of (by SHA-256), ResultRefused where no result
    can be bound to the film (it doesn't say its UIDs, or whose it is can't be read for certain), and UnavailableError
    without the extra `dicom-out`.
    """
    raise NotImplementedError
