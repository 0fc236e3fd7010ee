"""DICOM films as labelled data: found by content, grouped by patient and study, read as a device reads them."""

from pathlib import Path

import numpy as np
import pytest

import dicoms
from edgecxr.lab import dataset
from edgecxr.lab.audit.films import read_film
from edgecxr.lab.audit.headers import Header, read_header
from edgecxr.lab.dataset import read_dataset, with_splits
from edgecxr.lab.train.pictures import Corpus
from edgecxr.pictures.preprocess import Contract


def write(path: Path, seed: int, **tags: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicoms.film(dicoms.values(seed=seed), WindowCenter=2048, WindowWidth=4096, **tags))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Patient A in two studies, study S of two unnamed patients, and a film that says nothing."""
    write(tmp_path / "covid" / "IM0001", 1, PatientID="A-SECRET", StudyInstanceUID="1.1")
    write(tmp_path / "covid" / "b.dcm", 2, PatientID="A-SECRET", StudyInstanceUID="1.2")
    write(tmp_path / "normal" / "c.png", 3, PatientID="", StudyInstanceUID="1.3")
    write(tmp_path / "normal" / "d", 4, StudyInstanceUID="1.3")
    write(tmp_path / "normal" / "e.dcm", 5)
    (tmp_path / "normal" / "notes.txt").write_text("no picture")
    return tmp_path


GROUPS = {
    "covid/IM0001": "covid/IM0001",
    "covid/b.dcm": "covid/IM0001",
    "normal/c.png": "normal/c.png",
    "normal/d": "normal/c.png",
    "normal/e.dcm": "normal/e.dcm",
}


def test_films_are_found_by_content_and_grouped_by_patient_and_study(folder: Path) -> None:
    found = read_dataset(folder)
    assert {e.file: e.group for e in found.examples} == GROUPS
    assert "SECRET" not in repr(found)


def test_a_manifest_that_names_no_groups_gets_the_same(folder: Path) -> None:
    rows = "".join(f"{file},{file.split('/')[0]}\n" for file in GROUPS)
    (folder / "manifest.csv").write_text("file,label\n" + rows)
    assert {e.file: e.group for e in read_dataset(folder).examples} == GROUPS
    (folder / "manifest.csv").write_text("file,label,patient\n" + rows.replace("\n", ",P1\n"))
    assert {e.group for e in read_dataset(folder).examples} == {"P1"}


def test_a_fifo_among_them_is_not_waited_for(folder: Path) -> None:
    import os

    os.mkfifo(folder / "normal" / "pipe")
    assert len(read_dataset(folder).examples) == len(GROUPS)


def test_no_patient_is_divided(tmp_path: Path) -> None:
    for label in ("covid", "normal"):
        for number in range(12):
            write(tmp_path / label / f"{number}.dcm", number, PatientID=f"{label}{number // 2}")
    made = with_splits(read_dataset(tmp_path), 0)
    splits = {example.file: example.split for example in made.examples}
    assert all(splits[f"{label}/{n}.dcm"] == splits[f"{label}/{n + 1}.dcm"] for label in made.labels for n in (0, 2, 4))
    assert set(splits.values()) == set(dataset.SPLITS)


def test_what_training_and_the_audit_read_is_the_film(folder: Path, tmp_path: Path) -> None:
    found = read_dataset(folder)
    contract = Contract(height=71, width=71)
    images = Corpus(found.examples).inputs(contract, tmp_path / "cache")
    assert images.shape == (5, 71, 71)
    film = read_film(found.examples[0])
    assert film.properties["format"].tolist() == [0, 0, 0, 0, 1, 1, 0, 1, 0]  # DICOM, one component, deep
    assert film.thumbnail.std() > 10
    assert read_header(found.examples[0].path.read_bytes()) == Header("DICOM", 1, False, 0)
    assert np.ptp(film.properties["grey statistics"]) > 0
