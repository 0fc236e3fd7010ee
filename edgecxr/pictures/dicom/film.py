"""Is it one frontal chest film: what a DICOM file says of itself, against what this classifier was made for.

CR, DX for presentation, and secondary captures of either are read. A tag that is missing rejects nothing, but for what
pixels can't be read without: whether a picture is a chest film at all is for the network to say.
"""

from __future__ import annotations

from edgecxr.errors import PictureRejected
from edgecxr.pictures.dicom import elements as tags
from edgecxr.pictures.dicom.elements import Elements

# PS3.6, annex A: UIDs of SOP classes.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
COMPUTED_RADIOGRAPHY, DX_PRESENTATION, DX_PROCESSING = (f"{_STORAGE}{end}" for end in ("1", "1.1", "1.1.1"))
SECONDARY_CAPTURES = frozenset(
    {f"{_STORAGE}7", f"{_STORAGE}7.2", f"{_STORAGE}7.3"}
)  # grey ones, the last two of frames
MODALITIES = frozenset({"CR", "DX"})

# Body Part Examined is a code, and free text in practice: CHEST, CHEST PA, THORAX, TORAX.
CHEST = ("CHEST", "THORAX", "TORAX", "LUNG")
# View Position, PS3.3 C.8.11.5, with what else is written there for a film from the side or at an angle.
SIDE_VIEWS = frozenset({"LL", "RL", "LLAT", "RLAT", "LLD", "RLD", "LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBLIQUE"})
# Of CID 4010, "DX View": lateral, left, right and latero-medial, then oblique, in SNOMED CT's codes and SNOMED RT's.
SIDE_CODES = frozenset(
    {
        "399067008", "399173006", "399198007", "399352003", "R-102CD", "R-10236", "R-10232", "R-10228",
        "399182000", "399184004", "399236003", "399356000", "399135007", "399038007", "399006002",
        "R-102C1", "R-10238", "R-10234", "R-40985", "R-10220", "R-10210", "R-10212",
    }
)  # fmt: skip


def check(found: Elements) -> None:
    """Raise PictureRejected for what isn't one frontal chest film, or has no pixels."""
    sop_class, modality = found.text(tags.SOP_CLASS), found.text(tags.MODALITY)
    if sop_class == DX_PROCESSING or found.text(tags.INTENT) == "FOR PROCESSING":
        raise PictureRejected("for_processing", "a film for processing, and not for presentation")
    capture = sop_class in SECONDARY_CAPTURES
    if sop_class and not capture and sop_class not in (COMPUTED_RADIOGRAPHY, DX_PRESENTATION):
        raise PictureRejected("not_a_film", "a DICOM object of another kind than a chest film")
    if modality not in MODALITIES and (modality or capture):
        raise PictureRejected("not_a_film", "a DICOM picture of another modality than CR or DX")
    body_part = found.text(tags.BODY_PART)
    if body_part and not any(word in body_part for word in CHEST):
        raise PictureRejected("other_body_part", "a film of another body part than the chest")
    view, code = found.text(tags.VIEW_POSITION), found.values.get(tags.VIEW_CODE)
    code_value = Elements(code.item or {}, found.order, "").text(tags.CODE_VALUE) if code else ""
    if view in SIDE_VIEWS or view.startswith("LAT") or code_value in SIDE_CODES:
        raise PictureRejected("not_frontal", "a lateral or oblique view")
    if tags.FLOAT_PIXELS in found.values or tags.DOUBLE_PIXELS in found.values:
        raise PictureRejected("unsupported_samples", "floating-point samples have no defined reading as a film")
    if not any(len(piece) for piece in found.pixels):
        raise PictureRejected("no_pixels", "the DICOM file holds no pixels")
    if (found.number(tags.FRAMES) or 1) > 1:
        raise PictureRejected("several_frames", "the file holds more than one picture")
