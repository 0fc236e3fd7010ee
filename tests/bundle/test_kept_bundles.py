"""A bundle of every format that was ever written keeps loading and keeps its answers."""

from pathlib import Path

import numpy as np
import pytest

import tiny
from common import ROOT
from edgecxr import Classifier
from edgecxr.bundle import SCHEMA, load
from edgecxr.device.verify import verify
from edgecxr.engines.select import Asked

KEPT = ROOT / "tests" / "bundles"
DIGESTS = {
    "1-first.edgecxr": "173ef5c116dce7d33175966a93ba99b712ecebc9ad7306547ea4da3e95fdf0ec",
    "1-with-abstention.edgecxr": "6639f86a92b016b70e7152d05fcb91a407ce7282f6744d44aa19e1ea37924eff",
    "1-with-operating-points.edgecxr": "24bf764328d06e22ff1b71e9e33eee785e2196ebb50f6cdd757e11a96f311501",
}


def test_there_is_one_for_every_schema_and_none_was_changed() -> None:
    assert {path.name: load(path).digest for path in KEPT.glob("*.edgecxr")} == DIGESTS
    assert {load(KEPT / name).manifest["schema"] for name in DIGESTS} == set(range(1, SCHEMA + 1))


@pytest.mark.parametrize("name", DIGESTS)
def test_it_is_small_loads_and_gives_its_answers(name: str) -> None:
    assert sum(path.stat().st_size for path in (KEPT / name).rglob("*") if path.is_file()) < 200_000
    bundle = load(KEPT / name)
    assert (bundle.labels, bundle.temperature) == (tiny.LABELS, tiny.TEMPERATURE)
    assert bundle.preprocessing.version == (2 if name == "1-with-abstention.edgecxr" else 1)
    assert bundle.preprocessing.upgraded() == tiny.CONTRACT
    result = verify(bundle, Asked(engine="onnxruntime", device="cpu"))
    assert result.passed
    assert [check.pictures for check in result.golden] == [8, 8]
    by_hand = [tiny.tiny_logits(image[:, :, 0]) for image in bundle.golden_inputs()]
    np.testing.assert_allclose(bundle.golden_expected()[0].logits, by_hand, atol=1e-4)


def test_what_one_with_abstention_does_not_answer_and_earlier_ones_do() -> None:
    brightest = load(KEPT / "1-with-abstention.edgecxr").golden_inputs()[7][:, :, 0]
    assert tiny.tiny_ood(brightest) > 2.125
    for engine, threshold in (("onnxruntime", 2.0), ("openvino", 2.125)):
        found = Classifier(KEPT / "1-with-abstention.edgecxr", engine=engine).predict(brightest)
        assert (found.status, found.provenance.abstain_at) == ("abstained", threshold)
    older = Classifier(KEPT / "1-first.edgecxr").predict(brightest)
    assert (older.status, older.logits) == ("scored", pytest.approx(found.logits, abs=1e-4))


def test_the_operating_points_of_the_second_are_read() -> None:
    (point,) = load(KEPT / "1-with-operating-points.edgecxr").operating_points
    assert (point.label, point.target_sensitivity, point.threshold) == ("covid", 0.95, 0.31)
    assert load(Path(KEPT / "1-first.edgecxr")).operating_points == ()
