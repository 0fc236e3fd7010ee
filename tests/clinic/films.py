"""Films of somebody, to be answered."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import dicoms
from common import noisy

FILM, SERIES, STUDY = "1.2.826.0.1.99.3", "1.2.826.0.1.99.2", "1.2.826.0.1.99.1"


def item(**elements: Any) -> Dataset:
    found = Dataset()
    for keyword, value in elements.items():
        setattr(found, keyword, value)
    return found


def film(seed: int = 0, samples: np.ndarray | None = None, **changes: Any) -> bytes:
    """A film of Roe, Jane: who she is, her study, and what else stands in a film about her and whoever took it."""
    elements = {
        "SOPInstanceUID": FILM,
        "SeriesInstanceUID": SERIES,
        "StudyInstanceUID": STUDY,
        "PatientName": "Roe^Jane",
        "PatientID": "JR-1961",
        "IssuerOfPatientID": "CLINIC",
        "OtherPatientIDsSequence": Sequence(
            [item(PatientID="OTHER-7", IssuerOfPatientID="ELSEWHERE", TypeOfPatientID="TEXT")]
        ),
        "PatientBirthDate": "19610304",
        "PatientSex": "F",
        "PatientAge": "065Y",
        "PatientWeight": "61.5",
        "PregnancyStatus": 4,
        "StudyDate": "20261125",
        "StudyTime": "081530.25",
        "AccessionNumber": "A-42",
        "StudyID": "S1",
        "StudyDescription": "CHEST PA",
        "ReferringPhysicianName": "Doe^Ann",
        "TimezoneOffsetFromUTC": "+0100",
        "SeriesDescription": "CANARY series",
        "InstitutionName": "CANARY hospital",
        "OperatorsName": "CANARY^Operator",
        "StationName": "CANARY",
        "ImageComments": "CANARY comments",
        "RequestAttributesSequence": Sequence([item(ScheduledProcedureStepDescription="CANARY step")]),
        "AcquisitionDate": "19770707",
        "ContentDate": "19770707",
        "SeriesDate": "19770707",
    }
    samples = noisy((96, 80), seed) if samples is None else samples
    return dicoms.film(samples, **{**elements, **changes})
