"""One frontal chest film, or the reason why not."""

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

import dicoms
from edgecxr.errors import PictureRejected
from edgecxr.pictures.dicom import elements, film


def view(name: str) -> Sequence:
    """A View Code Sequence of CID 4010, "DX View"."""
    concept, item = getattr(codes.cid4010, name), Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept.value, "SCT", concept.meaning
    return Sequence([item])


READ = [
    {},
    {"SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX"},
    {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "DX"},
    {"SOPClassUID": MultiFrameGrayscaleWordSecondaryCaptureImageStorage, "Modality": "CR", "NumberOfFrames": 1},
    {"SOPClassUID": None, "Modality": None},  # what is missing rejects nothing
    {"Modality": None},
    {"BodyPartExamined": "Chest PA"},
    {"BodyPartExamined": "", "ViewPosition": ""},
    {"ViewPosition": "AP", "ViewCodeSequence": view("AnteroPosterior")},
    {"ViewCodeSequence": view("PosteroAnterior")},
    {"PresentationIntentType": "FOR PRESENTATION"},
    {"NumberOfFrames": 0},
]
REJECTED = {
    "not_a_film": [
        {"SOPClassUID": CTImageStorage},
        {"SOPClassUID": DigitalMammographyXRayImageStorageForPresentation, "Modality": "MG"},
        {"Modality": "RF"},
        {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"},
        {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": None},  # it may be of anything
    ],
    "for_processing": [
        {"SOPClassUID": DigitalXRayImageStorageForProcessing, "Modality": "DX"},
        {"PresentationIntentType": "FOR PROCESSING"},
    ],
    "other_body_part": [{"BodyPartExamined": part} for part in ("HAND", "ABDOMEN", "EXTREMITY")],
    "not_frontal": [
        *({"ViewPosition": position} for position in ("LL", "RL", "LAT", "LATERAL", "LAO")),
        *(
            {"ViewCodeSequence": view(name)}
            for name in ("LateralProjection", "LeftLateral", "RightLateral", "LeftAnteriorOblique")
        ),
    ],
    "several_frames": [{"NumberOfFrames": 2}],
}


@pytest.mark.parametrize("tags", READ, ids=str)
def test_a_chest_film_is_read(tags: dict[str, object]) -> None:
    film.check(elements.read(dicoms.film(**{"BodyPartExamined": "CHEST", "ViewPosition": "PA", **tags})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "tags"), [(code, tags) for code, cases in REJECTED.items() for tags in cases], ids=str
)
def test_anything_else_is_rejected_with_its_reason(code: str, tags: dict[str, object]) -> None:
    with pytest.raises(PictureRejected) as caught:
        film.check(elements.read(dicoms.film(**tags)))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_every_side_view_of_the_context_group_is_known() -> None:
    """Of CID 4010, whatever says lateral or oblique and isn't of another body part."""
    names = ("LateralProjection", "LeftLateral", "RightLateral", "LateralMedial", "LeftOblique", "RightOblique")
    names += ("RightAnteriorOblique", "LeftAnteriorOblique", "RightPosteriorOblique", "LeftPosteriorOblique")
    assert {getattr(codes.cid4010, name).value for name in names} <= film.SIDE_CODES
    for name in ("PosteroAnterior", "AnteroPosterior", "Frontal"):
        assert getattr(codes.cid4010, name).value not in film.SIDE_CODES


def test_no_pixels_are_a_reason_of_their_own() -> None:
    data = dicoms.film()
    cut = data[: data.index(b"\xe0\x7f\x10\x00OW")]
    with pytest.raises(PictureRejected) as caught:
        film.check(elements.read(cut))
    assert caught.value.code == "no_pixels"
