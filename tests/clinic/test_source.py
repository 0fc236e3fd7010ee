"""What is taken over from a film, against pydicom's reading of it."""

from __future__ import annotations

import io
import re
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import dicoms
from clinic.films import FILM, SERIES, STUDY, film, item
from edgecxr.clinic import source
from edgecxr.errors import ResultRefused


def taken(dicom: bytes) -> Dataset:
    result = Dataset()
    source.read(dicom).take_over(result)
    return result


def own(dicom: bytes) -> Dataset:
    """The elements of the two modules as pydicom reads them."""
    whole = pydicom.dcmread(io.BytesIO(dicom), force=True)
    found = Dataset()
    for element in whole:
        if element.keyword in {*source.PATIENT, *source.STUDY, "TimezoneOffsetFromUTC"}:
            found.add(element)
    found.SpecificCharacterSet = "ISO_IR 192"
    return found


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.1", dicoms.IMPLICIT, dicoms.BIG_ENDIAN, dicoms.DEFLATED], ids=lambda uid: uid[13:]
)
def test_the_patient_and_the_study_are_taken_over_and_nothing_else(syntax: str) -> None:
    dicom = film(syntax=syntax)
    result = taken(dicom)
    assert result == own(dicom)
    assert len(result) == 18
    assert result.PregnancyStatus == 4 and result.OtherPatientIDsSequence[0].PatientID == "OTHER-7"
    assert "CANARY" not in str(result) and "1977" not in str(result)
    found = source.read(dicom)
    assert (found.sop_instance, found.series, found.study) == (FILM, SERIES, STUDY)
    assert found.sop_class == "1.2.840.10008.5.1.4.1.1.1"
    assert str(found.made) == "2026-11-25 08:15:30"


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Müller^Jörg=山田^太郎"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("GB18030", "王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_names_in_any_character_set_become_utf_8(declared: Any, name: str) -> None:
    nested = Sequence([item(PatientID="1", IssuerOfPatientID="x"), item(PatientID="2")])
    dicom = film(SpecificCharacterSet=declared, PatientName=name, OtherPatientIDsSequence=nested)
    result = taken(dicom)
    assert str(result.PatientName) == name
    assert result == own(dicom)
    written = io.BytesIO()
    pydicom.dcmwrite(written, result, implicit_vr=False, little_endian=True)
    assert name.encode() in written.getvalue()


def test_what_is_not_declared_is_latin_1_as_it_is_in_practice() -> None:
    dicom = film(PatientName="Muller^Jorg").replace(b"Muller^Jorg", "Müller^Jörg".encode("latin-1"))
    assert str(taken(dicom).PatientName) == "Müller^Jörg"


def test_a_name_that_breaks_a_rule_stays_as_it_is() -> None:
    odd = {"PatientSex": "FEMALE", "PatientBirthDate": "1961.03.04", "PatientID": "a\\b", "PatientName": "x" * 70}
    result = taken(film(**odd))
    assert (result.PatientSex, result.PatientBirthDate, list(result.PatientID)) == ("FEMALE", "1961.03.04", ["a", "b"])
    assert str(result.PatientName) == "x" * 70


def test_an_age_or_a_weight_that_is_none_is_left_out() -> None:
    result = taken(film(PatientAge="65").replace(b"61.5", b"61,5"))
    assert "PatientAge" not in result and "PatientWeight" not in result


@pytest.mark.parametrize("made", [("", ""), ("20261350", "081530"), ("soon", "now")])
def test_a_study_without_a_date_has_none(made: tuple[str, str]) -> None:
    assert source.read(film(StudyDate=made[0], StudyTime=made[1])).made is None
    assert str(source.read(film(StudyTime=made[1])).made)[:10] == "2026-11-25"


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "1.2.x", "../../etc/passwd", "1." + "2" * 63])
def test_without_its_uids_a_film_has_no_result(keyword: str, value: str | None) -> None:
    with pytest.raises(ResultRefused, match=f"needs a valid {keyword}") as refused:
        source.read(film(**{keyword: value}))
    assert not value or value not in str(refused.value)


def test_two_patients_in_one_film_are_refused() -> None:
    dicom = film(preamble=False, meta=False)
    name = re.search(rb"\x10\0\x20\0LO\x08\0JR-1961 ", dicom)
    assert name
    twice = dicom[: name.end()] + name[0].replace(b"JR", b"XY") + dicom[name.end() :]
    source.read(dicom)
    with pytest.raises(ResultRefused, match="stands there twice"):
        source.read(twice)


@pytest.mark.parametrize(("declared", "name"), [("ISO_IR 192", b"M\xfcller^Jorg"), ("KLINGON", b"M\xfcller^Jorg")])
def test_text_of_another_character_set_than_declared_is_refused(declared: str, name: bytes) -> None:
    dicom = film(SpecificCharacterSet=declared, PatientName="Muller^Jorg").replace(b"Muller^Jorg", name)
    with pytest.raises(ResultRefused, match="its text isn't of the character set") as refused:
        source.read(dicom)
    assert "ller" not in str(refused.value)


def test_what_is_built_to_exhaust_is_refused() -> None:
    deep = item(PatientID="1")
    for _ in range(40):
        deep = item(OtherPatientIDsSequence=Sequence([deep]))
    with pytest.raises(ResultRefused, match="more than 16 DICOM sequences"):
        source.read(film(OtherPatientIDsSequence=deep.OtherPatientIDsSequence))
    with pytest.raises(ResultRefused, match="longer than it ever is"):
        source.read(film(PatientComments="x" * 20_000))
