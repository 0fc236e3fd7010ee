"""Results as DICOM objects, read back by highdicom and pydicom."""

from __future__ import annotations

import hashlib
import io
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

import edgecxr
import tiny
from clinic.films import FILM, SERIES, STUDY, film
from common import noisy
from edgecxr.clinic import ResultObject, answer, dicom_results, source
from edgecxr.clinic.report import COMPREHENSIVE_3D_SR, SECONDARY_CAPTURE, result_uid
from edgecxr.errors import ResultRefused, UsageError
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import pipeline
from edgecxr.views import overlay

POINT = {
    "label": "covid", "target_sensitivity": 0.9, "threshold": 0.78, "sensitivity": 0.9008, "specificity": 0.9973,
    "split": "dev", "pictures": 1222,
}  # fmt: skip


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> edgecxr.Classifier:
    folder = tmp_path_factory.mktemp("clinic")
    return edgecxr.Classifier(tiny.write_bundle(folder / "tiny.edgecxr", operating_points=[POINT]))


def opened(result: ResultObject) -> Dataset:
    found = pydicom.dcmread(io.BytesIO(result.data))
    assert found.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert found.SOPInstanceUID == found.file_meta.MediaStorageSOPInstanceUID == result.sop_instance_uid
    assert found.SOPClassUID == found.file_meta.MediaStorageSOPClassUID == result.sop_class_uid
    return found


def groups(result: ResultObject) -> list[Any]:
    """The measurement groups as highdicom reads them."""
    report = hd.sr.srread(io.BytesIO(result.data))
    return report.content.get_image_measurement_groups()  # type: ignore[no-any-return]


def evaluations(group: Any) -> dict[str, str]:
    """Those of our own; highdicom counts the algorithm's family among them."""
    found = group.get_qualitative_evaluations()
    return {e.name.meaning: e.value.meaning for e in found if e.name.scheme_designator == "99EDGECXR"}


def abstained(prediction: Prediction, score: float) -> Prediction:
    return replace(prediction, status="abstained", label=None, ood_score=score)


def test_every_class_has_a_finding_and_its_probability(classifier: edgecxr.Classifier) -> None:
    prediction, (result,) = answer(classifier, film())
    assert prediction.status == "scored"
    first, *classes = groups(result)
    code = {"covid": "840539006", "normal": "17621005", "viral_pneumonia": "75570004"}
    (most,) = [e for e in first.get_qualitative_evaluations() if e.name.meaning == "Most probable class"]
    assert most.value.value == code[str(prediction.label)]
    assert first.finding_type is None and not first.get_measurements()
    assert [group.finding_type.value for group in classes] == list(code.values())
    assert {group.finding_type.scheme_designator for group in classes} == {"SCT"}
    for label, group in zip(code, classes, strict=True):
        (measured,) = group.get_measurements()
        assert measured.name == codes.DCM.Probability and measured.unit == codes.UCUM.NoUnits
        assert measured.value == prediction.probabilities[label]  # to the last bit
        said = "Most probable class" if label == prediction.label else "Less probable than another class"
        assert evaluations(group) == {"Rank among the classes": said}
        assert group.tracking_identifier == f"probability of {label}"
        (image,) = group.source_images
        assert image.referenced_sop_instance_uid == FILM


def test_each_group_says_which_algorithm_answered_and_how(classifier: edgecxr.Classifier) -> None:
    prediction, (result,) = answer(classifier, film())
    bundle, made = classifier.bundle, prediction.provenance
    for group, label in zip(groups(result), (None, *bundle.labels), strict=True):
        items = hd.sr.utils.find_content_items(group[0], recursive=True)
        texts = [(i.name.meaning, i.value) for i in items if str(i.name.meaning).startswith("Algorithm")]
        points = "operating points: p >= 0.78: sensitivity 0.9008, specificity 0.9973, on 1222 pictures of dev"
        wanted = [
            ("Algorithm Name", "tiny"),
            ("Algorithm Version", "1"),
            ("Algorithm Parameters", f"bundle SHA-256: {bundle.digest}"),
            ("Algorithm Parameters", f"engine: {made.engine}, {made.provider}, on {made.device}"),
            ("Algorithm Parameters", f"precision: {made.precision}"),
            ("Algorithm Parameters", f"calibration: temperature {tiny.TEMPERATURE:g}"),
            *([("Algorithm Parameters", points)] if label == "covid" else []),
        ]
        assert texts[:-1] == wanted
        assert texts[-1][1] == codes.DCM.ArtificialIntelligence


def test_the_report_is_a_preliminary_one_of_the_films_study(classifier: edgecxr.Classifier) -> None:
    dicom = film(PatientName="山田^太郎", SpecificCharacterSet="ISO_IR 192")
    prediction, (result,) = answer(classifier, dicom)
    report = opened(result)
    assert result.sop_class_uid == COMPREHENSIVE_3D_SR and report.Modality == "SR"
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert report.SeriesDescription == "edgecxr, research use"
    assert report.StudyInstanceUID == STUDY and report.SeriesInstanceUID != SERIES
    assert str(report.PatientName) == "山田^太郎" and report.PatientID == "JR-1961"
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (image,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID, image.ReferencedSOPInstanceUID) == (STUDY, SERIES, FILM)
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (procedure,) = [i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "121058"]
    assert procedure.ConceptCodeSequence[0].CodeMeaning == "Plain chest X-ray"
    assert prediction.provenance.bundle_sha256 == report.DeviceSerialNumber
    algorithm = report.ContributingEquipmentSequence[-1]
    assert (algorithm.ManufacturerModelName, algorithm.SoftwareVersions) == ("tiny", "1")


def test_nothing_of_the_patient_stands_elsewhere(classifier: edgecxr.Classifier) -> None:
    dicom = film()
    for result in answer(classifier, dicom, heat_map=True)[1]:
        found = opened(result)
        for keyword in (*source.PATIENT, *source.STUDY):
            if keyword in found and keyword not in ("StudyInstanceUID", "StudyDate", "StudyTime"):
                del found[keyword]
        rest = str(found)
        for words in ("CANARY", "Roe", "1961", "Jane", "Doe", "A-42", "1977", "CLINIC", "OTHER-7"):
            assert words not in rest, words


def test_an_abstained_film_has_no_finding_and_no_probability(classifier: edgecxr.Classifier) -> None:
    dicom = film()
    prediction, evidence = pipeline.explain(classifier.session, dicom)
    (result,) = dicom_results(dicom, abstained(prediction, 7.25), classifier.bundle, evidence=evidence)
    (only,) = groups(result)
    assert evaluations(only) == {"Most probable class": "Abstained from an answer"}
    (distance,) = only.get_measurements()
    assert distance.value == 7.25
    assert only.finding_type is None
    assert b"COVID-19" not in result.data and b"Probability" not in result.data


def test_a_rejected_film_has_no_result(classifier: edgecxr.Classifier, tmp_path: Path) -> None:
    for given in (film(ViewPosition="LL"), b"nothing", tmp_path / "absent.dcm"):
        prediction, results = answer(classifier, given)
        assert prediction.status == "rejected" and results == []


def test_what_is_not_dicom_has_no_result(classifier: edgecxr.Classifier, samples: Path) -> None:
    prediction, results = answer(classifier, samples / "phantom-1.png")
    assert (prediction.status, results) == ("scored", [])
    assert prediction.path == str(samples / "phantom-1.png")
    with pytest.raises(ResultRefused):
        dicom_results((samples / "phantom-1.png").read_bytes(), prediction, classifier.bundle)


def test_the_same_film_twice_is_the_same_object(classifier: edgecxr.Classifier) -> None:
    first, again = (answer(classifier, film(), heat_map=True) for _ in range(2))
    assert first[1] == again[1]
    later = replace(again[0], time_utc="2031-01-01T00:00:00.000Z")
    assert dicom_results(film(), later, classifier.bundle) == first[1][:1]
    assert len({result.sop_instance_uid for result in first[1]}) == 2
    assert [result.sop_instance_uid for result in first[1]] == [
        result_uid(FILM, classifier.bundle.digest, what) for what in ("report", "evidence")
    ]
    report = opened(first[1][0])
    assert (report.ContentDate, report.ContentTime) == ("20261125", "081530")
    assert re.fullmatch(r"2\.25\.\d{1,39}", report.SOPInstanceUID)


def test_a_film_without_a_date_is_dated_by_its_scoring(classifier: edgecxr.Classifier) -> None:
    dicom = film(StudyDate="", StudyTime="")
    prediction, _ = answer(classifier, dicom)
    prediction = replace(prediction, time_utc="2026-11-26T01:02:03.004Z")
    report = opened(dicom_results(dicom, prediction, classifier.bundle)[0])
    assert (report.ContentDate, report.ContentTime, report.StudyDate) == ("20261126", "010203.004000", "")


def test_another_film_or_another_bundle_is_another_object(classifier: edgecxr.Classifier, tiny_bundle: Path) -> None:
    other = edgecxr.Classifier(tiny_bundle)
    (here,), (there,), (elsewhere,) = (
        answer(answering, dicom)[1]
        for answering, dicom in ((classifier, film()), (other, film()), (classifier, film(SOPInstanceUID="1.2.9")))
    )
    assert len({here.sop_instance_uid, there.sop_instance_uid, elsewhere.sop_instance_uid}) == 3
    devices = [opened(result).ContributingEquipmentSequence[-1].DeviceUID for result in (here, there, elsewhere)]
    assert devices[0] == devices[2] != devices[1]
    series = {opened(result).SeriesInstanceUID for result in (here, there, elsewhere)}
    assert len(series) == 3


def test_an_answer_goes_with_its_own_film_and_bundle_only(classifier: edgecxr.Classifier, tiny_bundle: Path) -> None:
    prediction, _ = answer(classifier, film())
    with pytest.raises(UsageError, match="another hash"):
        dicom_results(film(seed=1), prediction, classifier.bundle)
    with pytest.raises(UsageError, match="another bundle"):
        dicom_results(film(), prediction, edgecxr.load(tiny_bundle))


def test_the_picture_is_the_film_and_its_evidence(classifier: edgecxr.Classifier) -> None:
    samples = noisy((96, 80), 2)
    dicom = film(samples=samples)
    prediction, (_, result) = answer(classifier, dicom, heat_map=True)
    capture = opened(result)
    assert result.sop_class_uid == SECONDARY_CAPTURE
    assert (capture.BurnedInAnnotation, capture.ImageType) == ("YES", ["DERIVED", "SECONDARY"])
    assert capture.SeriesDescription == f"edgecxr evidence for {prediction.label}, research use"
    assert capture.StudyInstanceUID == STUDY and capture.PatientID == "JR-1961"
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == FILM
    evidence = classifier.evidence(dicom)[..., classifier.labels.index(str(prediction.label))]
    np.testing.assert_array_equal(capture.pixel_array, overlay.side_by_side(samples, evidence))


def test_a_label_of_another_bundle_is_a_code_of_its_own(tmp_path: Path) -> None:
    labels = ["Überblähung der Lunge beidseits und noch etwas länger als sonst", "COVID-19", "b"]
    bundle = tiny.write_bundle(tmp_path / "b.edgecxr", labels=labels)
    _, (result,) = answer(edgecxr.Classifier(bundle), film())
    found = [group.finding_type for group in groups(result)[1:]]
    assert [code.meaning for code in found] == labels
    assert [code.scheme_designator for code in found] == ["99EDGECXR", "SCT", "99EDGECXR"]


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian])
def test_mutants_have_a_result_or_none(classifier: edgecxr.Classifier, syntax: str) -> None:
    """Whatever a film says of somebody: a result that can be read back, or a named refusal."""
    rng, outcomes = random.Random(3), Counter[str]()
    whole = film(syntax=syntax, SpecificCharacterSet="ISO_IR 192", PatientComments="Grüße " * 60)
    prediction, _ = answer(classifier, whole)
    header = whole.rindex(b"\xe0\x7f\x10\0")
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(132, header)] = rng.randrange(256)
        of_it = replace(prediction, sha256=hashlib.sha256(data).hexdigest())
        try:
            (result,) = dicom_results(bytes(data), of_it, classifier.bundle)
        except ResultRefused:
            outcomes["refused"] += 1
            continue
        assert pydicom.dcmread(io.BytesIO(result.data)).VerificationFlag == "UNVERIFIED"
        outcomes["told"] += 1
    assert outcomes["told"] > 15 and outcomes["refused"] > 15
