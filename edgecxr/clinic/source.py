"""Whose film it is, and where in a study it stands: what an object that answers a film takes over from it.

The patient's and the study's modules, as PS3.3 lists them, in UTF-8 and otherwise as they are: a value that breaks a
rule of the standard is the film's, and a result that says otherwise would be another patient's. Of the film itself
nothing is taken over but its UIDs. It is walked by `pictures.dicom.elements`, under its limits, and by nothing else.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydicom import config
from pydicom.charset import decode_bytes, python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from edgecxr.errors import PictureRejected, ResultRefused
from edgecxr.pictures.dicom.elements import Field, copied
from edgecxr.pictures.dicom.film import COMPUTED_RADIOGRAPHY, DX_PRESENTATION, SECONDARY_CAPTURES

# PS3.3, C.7.1.1, "Patient", without the strains of laboratory animals and the photograph.
PATIENT = frozenset(
    {
        "ReferencedPatientSequence", "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID",
        "IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientBirthTime",
        "PatientBirthDateInAlternativeCalendar", "PatientDeathDateInAlternativeCalendar",
        "PatientAlternativeCalendar", "PatientSex", "QualityControlSubject", "OtherPatientIDs", "OtherPatientNames",
        "OtherPatientIDsSequence", "EthnicGroup", "EthnicGroupCodeSequence", "PatientSpeciesDescription",
        "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
        "BreedRegistrationSequence", "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization",
        "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    }
)  # fmt: skip
# C.7.2.1, "General Study", and C.7.2.2, "Patient Study".
STUDY = frozenset(
    {
        "StudyInstanceUID", "StudyDate", "StudyTime", "AccessionNumber", "IssuerOfAccessionNumberSequence",
        "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName",
        "ConsultingPhysicianIdentificationSequence", "StudyDescription", "ProcedureCodeSequence",
        "PhysiciansOfRecord", "PhysiciansOfRecordIdentificationSequence", "NameOfPhysiciansReadingStudy",
        "PhysiciansReadingStudyIdentificationSequence", "ReferencedStudySequence", "StudyID", "RequestingService",
        "RequestingServiceCodeSequence", "ReasonForPerformedProcedureCodeSequence", "AdmittingDiagnosesDescription",
        "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize", "PatientSizeCodeSequence",
        "PatientBodyMassIndex", "MeasuredAPDimension", "MeasuredLateralDimension", "PatientWeight", "MedicalAlerts",
        "Allergies", "Occupation", "SmokingStatus", "AdditionalPatientHistory", "PregnancyStatus",
        "LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit", "ReasonForVisitCodeSequence", "AdmissionID",
        "IssuerOfAdmissionIDSequence", "ServiceEpisodeID", "ServiceEpisodeDescription",
        "IssuerOfServiceEpisodeIDSequence", "PatientState",
    }
)  # fmt: skip
FILMS = {COMPUTED_RADIOGRAPHY, DX_PRESENTATION, *SECONDARY_CAPTURES}
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
CHARACTER_SET, ZONE = 0x00080005, 0x00080201  # in which all times of a data set are (Timezone Offset From UTC)

# PS3.5, 6.1.2.3: representations to which Specific Character Set applies; those in its default; and decimal ones.
_TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_ASCII = frozenset({"AE", "AS", "CS", "DA", "DT", "TM", "UI", "UR"})
_DECIMAL = frozenset({"DS", "IS"})
_DELIMITERS = {ord(character) for character in "\r\n\t\f\\^="}  # which end a code extension, PS3.5, 6.1.2.5.3
_TAGS = frozenset(tag_for_keyword(keyword) for keyword in PATIENT | STUDY)


@dataclass(frozen=True)
class Source:
    """A film as the objects that answer it refer to it."""

    sop_class: str
    sop_instance: str
    study: str
    series: str
    elements: tuple[DataElement, ...]  # of the patient and the study, in Unicode, by ascending tag
    made: datetime | None  # when the study began, by the film's own clock; None where it doesn't say

    def evidence(self) -> Dataset:
        """The film as highdicom takes it: what it refers to, and nobody's name."""
        film = Dataset()
        film.SOPClassUID, film.SOPInstanceUID = self.sop_class, self.sop_instance
        film.StudyInstanceUID, film.SeriesInstanceUID = self.study, self.series
        for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            setattr(film, keyword, "")
        film.StudyDate = film.StudyTime = film.ReferringPhysicianName = None
        return film

    def take_over(self, result: Dataset) -> None:
        """Make an object one of this patient's and this study's."""
        result.SpecificCharacterSet = "ISO_IR 192"
        for element in self.elements:
            result.add(element)


def read(dicom: bytes) -> Source:
    """What a film's bytes say of whose it is; raises ResultRefused where that can't be read for certain."""
    uids = {tag_for_keyword(keyword): keyword for keyword in UIDS}
    try:
        fields, order = copied(dicom, {*_TAGS, *uids, CHARACTER_SET, ZONE}, _vr)  # type: ignore[arg-type]  # known ones
    except PictureRejected as damaged:
        raise ResultRefused(f"no result can be bound to the film: {damaged.message}") from None
    said = {keyword: _uid(fields.get(tag), keyword) for tag, keyword in uids.items()}  # type: ignore[arg-type]
    if said["SOPClassUID"] not in FILMS:
        raise ResultRefused("no result can be bound to the film: it is of no SOP class of films")
    sets = _character_sets(fields)
    taken = {tag: field for tag, field in fields.items() if tag in _TAGS or tag == ZONE}
    elements = _elements(taken, order, sets)
    values = {element.keyword: str(element.value or "") for element in elements}
    return Source(
        said["SOPClassUID"],
        said["SOPInstanceUID"],
        said["StudyInstanceUID"],
        said["SeriesInstanceUID"],
        tuple(elements),
        _time(values.get("StudyDate", ""), values.get("StudyTime", "")),
    )


def _vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:  # private, or of a newer standard
        return ""


def _uid(field: Field | None, keyword: str) -> str:
    """A UID as PS3.5, 9.1 has it, leading zeros included, which real ones have."""
    value = b"" if field is None else field.data.strip(b" \0")
    if not re.fullmatch(rb"[0-9]+(\.[0-9]+)+", value) or len(value) > 64:
        raise ResultRefused(f"no result can be bound to the film: it needs a valid {keyword}, got none")
    return value.decode("ascii")


def _time(date: str, time: str) -> datetime | None:
    for text, form in ((date + time[:6], "%Y%m%d%H%M%S"), (date, "%Y%m%d")):
        if text.isdecimal() and len(text) in (8, 14):
            try:
                return datetime.strptime(text, form)
            except ValueError:
                continue
    return None


def _character_sets(fields: Mapping[int, Field]) -> list[str] | None:
    """Python's codecs for a data set's text, the first for what no escape sequence precedes; None: not one we know."""
    field = fields.get(CHARACTER_SET)
    said = [] if field is None else field.data.decode("latin-1").strip(" \0").upper().split("\\")
    terms = [re.sub(r"^ISO[-_ ]IR[-_ ]", "ISO_IR ", term.strip()) for term in said] or [""]
    found = [python_encoding.get(term) for term in terms]
    return None if None in found else [codec for codec in found if codec]


def _elements(fields: Mapping[int, Field], order: str, sets: Sequence[str] | None) -> list[DataElement]:
    return [element for tag in sorted(fields) if (element := _element(tag, fields[tag], order, sets)) is not None]


def _element(tag: int, field: Field, order: str, sets: Sequence[str] | None) -> DataElement | None:
    """The element as pydicom has it, otherwise unchecked; None for an age or a number that is none, which names nobody,
    and of a kind that isn't taken over."""
    if field.vr == "SQ":
        items = []
        for fields in field.items:
            own = _character_sets(fields) if CHARACTER_SET in fields else sets
            items.append(Dataset({e.tag: e for e in _elements(_without_character_set(fields), order, own)}))
        return DataElement(tag, "SQ", items)
    value: str | list[int]
    if field.vr in _TEXT:
        value = _text(field.data, sets)
    elif field.vr in _ASCII:
        value = _text(field.data, ["ascii"])
        if field.vr == "AS" and not re.fullmatch(r"\d{3}[DWMY]|", value):
            return None
    elif field.vr in _DECIMAL:
        value = _text(field.data, ["ascii"])
        if not all(re.fullmatch(r" *[-+]?\d*\.?\d*([eE][-+]?\d+)? *", number) for number in value.split("\\")):
            return None
    elif field.vr == "US" and len(field.data) == 2:
        value = list(struct.unpack(f"{order}H", field.data))
    else:
        return None
    return DataElement(tag, field.vr, value, validation_mode=config.IGNORE)


def _without_character_set(fields: Mapping[int, Field]) -> Mapping[int, Field]:
    return {tag: field for tag, field in fields.items() if tag != CHARACTER_SET}


def _text(data: bytes, sets: Sequence[str] | None) -> str:
    """A value in Unicode; raises ResultRefused where its bytes aren't text of the film's character set."""
    data = data.rstrip(b" \0")
    if data.isascii() and b"\x1b" not in data:
        return data.decode("ascii")
    try:
        if sets is None:
            raise UnicodeError
        if b"\x1b" not in data:
            return data.decode(sets[0])
        text = decode_bytes(data, sets, _DELIMITERS)
    except (UnicodeError, UserWarning):  # a warning where the program that embeds us has them raised
        text = "\ufffd"
    if "\ufffd" in text or "\x1b" in text:
        raise ResultRefused("no result can be bound to the film: its text isn't of the character set that it declares")
    return text
