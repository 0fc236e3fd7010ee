"""The walk over a DICOM file: pydicom's values, within limits."""

import csv
import struct
import warnings
import zlib

import pytest
from pydicom import dcmread

import dicoms
from common import REAL
from edgecxr.errors import PictureRejected
from edgecxr.pictures.dicom import elements
from hostile import pictures

META = 132  # bytes before the meta header


def code(data: bytes) -> str:
    with pytest.raises(PictureRejected) as caught:
        elements.read(data)
    return caught.value.code


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    long = vr in (b"OB", b"SQ", b"UN", b"OW")
    length = struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + length + value


def started(vr: bytes = b"SQ", tag: int = 0x00091001) -> bytes:
    """A sequence of undefined length, and an item of it, neither of them ended."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + b"\0\0" + b"\xff" * 4
    return head + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)


def meta(syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    return bytes(128) + b"DICM" + element(0x00020010, b"UI", syntax.encode() + b"\0" * (len(syntax) % 2))


def deflated(content: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return meta(elements.DEFLATED) + stream.compress(content) + stream.flush()


def test_real_files_hold_what_pydicom_finds_in_them() -> None:
    folder = REAL / "dicom"
    if not folder.is_dir():
        pytest.skip(f"no real pictures at {REAL} (set EDGECXR_DATA)")
    compared = 0
    with (folder / "manifest.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file) if "bomb" not in row["file"]]
    for name in names:
        data = (folder / name).read_bytes()
        try:
            ours = elements.read(data)
        except PictureRejected:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = dcmread(folder / name, force=True)
            for tag, value in ours.values.items():
                if tag == elements.PIXELS:
                    assert len(theirs.PixelData or b"") == len(value.data) or ours.fragmented, name
                    continue
                found = theirs.get_item(tag)
                if value.item is None and hasattr(found, "value") and isinstance(found.value, bytes):
                    assert bytes(value.data) == found.value, (name, hex(tag))
                    compared += 1
                elif value.item is not None:
                    assert {item.tag for item in theirs[tag].value[0] if item.tag in elements._WANTED} == set(
                        value.item
                    )
            if theirs.get("Rows") is not None:
                assert ours.integer(elements.ROWS) == theirs.Rows, name
    assert compared > 1000


def test_a_dicom_file_is_known_by_its_content() -> None:
    for options in ({}, {"preamble": False}, {"meta": False}, {"meta": False, "syntax": dicoms.IMPLICIT}):
        assert elements.is_dicom(dicoms.film(**options)), options
    others = [*pictures.seeds().values(), *pictures.bombs().values()]
    assert not any(
        elements.is_dicom(data) for data in (*others, b"", b"\2\0\0\0", b"\2\0\0\0UL" + bytes(10), bytes(200))
    )


def test_what_is_cut_anywhere_is_damaged() -> None:
    data = dicoms.film(VOILUTSequence=dicoms.lut(dicoms.values().reshape(-1)[:16]))
    for end in range(META, len(data) - 1, 7):
        try:
            found = elements.read(data[:end])
        except PictureRejected as rejected:
            assert rejected.code == "corrupt"
        else:
            assert not found.pixels


def test_a_private_sequence_without_lengths_is_stepped_over() -> None:
    data = dicoms.film()
    ended = element(0x00100010, b"PN", b"Roe ") + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    private = started() + started() + ended + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    private += struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    place = data.index(struct.pack("<HH", 0x28, 2) + b"US")
    whole = elements.read(data[:place] + private + data[place:])
    assert whole.integer(elements.ROWS) == 80
    assert code(data[:place] + private[:-8] + data[place:]) == "corrupt"


def test_unknown_representation_of_undefined_length_is_implicit_inside() -> None:
    # PS3.5, 6.2.2, note 2 of VR UN
    implicit = struct.pack("<HHI", 0x10, 0x10, 4) + b"Roe " + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    private = started(b"UN") + implicit + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = meta() + private + element(elements.MODALITY, b"CS", b"CR")
    assert elements.read(data).text(elements.MODALITY) == "CR"


def test_sequences_nest_so_deep_and_no_deeper() -> None:
    assert code(meta() + started() * 1000) == "too_many_parts"


def test_elements_are_counted_wherever_they_stand() -> None:
    many = element(0x00091001, b"CS", b"") * (elements.MAX_ELEMENTS + 1)
    assert code(meta() + many) == "too_many_parts"
    assert code(meta() + started() + many) == "too_many_parts"
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    pixels = struct.pack("<HH", 0x7FE0, 0x10) + b"OB\0\0" + b"\xff" * 4
    assert code(meta() + pixels + item * (elements.MAX_ELEMENTS + 1)) == "too_many_parts"


def test_what_inflates_as_no_film_does_is_rejected_before_it_has() -> None:
    assert code(deflated(element(0x00091001, b"OB", bytes(20_000_000)))) == "implausible"
    plain = dicoms.film(syntax=dicoms.DEFLATED)
    assert elements.read(plain).integer(elements.ROWS) == 80
    assert code(plain[:-1000]) == "corrupt"


def test_a_value_that_stands_there_twice_or_is_endless_is_rejected() -> None:
    modality = element(elements.MODALITY, b"CS", b"CR")
    assert code(meta() + modality * 2) == "corrupt"
    assert code(meta() + element(elements.LUT_DATA, b"OW", bytes(elements.MAX_VALUE + 2))) == "implausible"
    assert code(meta() + struct.pack("<HH", 8, 0x60) + b"UN\0\0" + struct.pack("<I", 1 << 31)) == "corrupt"
    assert code(meta() + struct.pack("<HH", 8, 0x60) + b"??\2\0CR") == "corrupt"


@pytest.mark.parametrize("written", ["nan", "inf", "1e999", "twelve", "1,5"])
def test_a_number_that_is_none_is_rejected(written: str) -> None:
    found = elements.read(meta() + element(elements.WINDOW_WIDTH, b"DS", written.encode().ljust(8)))
    with pytest.raises(PictureRejected) as caught:
        found.number(elements.WINDOW_WIDTH)
    assert caught.value.code == "corrupt"


def test_the_first_of_several_numbers_counts_and_spaces_do_not() -> None:
    found = elements.read(meta() + element(elements.WINDOW_WIDTH, b"DS", b" 1228.5 \\500"))
    assert found.number(elements.WINDOW_WIDTH) == 1228.5


def test_patient_and_study_of_a_files_first_bytes() -> None:
    named = {"PatientID": "4711 ", "StudyInstanceUID": "1.2.3.4"}
    for options in ({}, {"syntax": dicoms.DEFLATED}, {"meta": False}):
        data = dicoms.film(**named, **options)
        assert elements.patient_and_study(data) == (b"4711", b"1.2.3.4")
    assert elements.patient_and_study(dicoms.film(**named)[:600]) == (b"4711", b"1.2.3.4")
    assert elements.patient_and_study(dicoms.film()) == (b"", b"")
    assert elements.patient_and_study(b"") == (b"", b"")
