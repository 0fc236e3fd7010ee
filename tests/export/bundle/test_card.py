"""The model card, written from reports: every figure that a report holds is in it, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.lab.dataset import Example
from edgecxr.lab.evaluation.operating import fit_operating_points
from edgecxr.lab.evaluation.report import evaluate_logits
from edgecxr.scoring.postprocess import probabilities
from edgecxr_export.bundle.card import model_card
from edgecxr_export.parity.gates import Gates
from export.conftest import LABELS

TEMPERATURE = 0.8123
QUANTIZED = {
    "chosen": {"clip": "99.99", "channels": "alike", "rounding": "second-order"},
    "steps": [{"float_nodes": []}, {"float_nodes": ["conv_004", "conv_009"]}],
}
DECIDING = {
    "flips": 1, "pictures": 600, "flips_interval95": (0.0003, 0.0094), "reference_accuracy": 0.95, "accuracy": 0.9483,
    "drop_interval95": (0.0, 0.005), "p99_logits": 0.051, "p99_logits_interval95": (0.045, 0.06), "max_dp": 0.07,
}  # fmt: skip
# (label, origin, answers)
ANSWERS = (
    ("covid", "adult, A", "ccccccccn"),
    ("normal", "adult, B", "nnnc"),
    ("normal", "pediatric, C", "nnnnv"),
    ("viral_pneumonia", "pediatric, C", "vvvvvvvnc"),
)


def evaluated(answers: tuple[tuple[str, str, str], ...] = ANSWERS, **options: Any) -> dict[str, Any]:
    """The report of ANSWERS; each picture is a group, and every answer has the logit 1."""
    examples, given = [], []
    for label, origin, letters in answers:
        for number, letter in enumerate(letters):
            file = f"{label}/{origin}{number}"
            examples.append(Example(Path(file), file, label, "dev", file, {"origin": origin}))
            given.append("cnv".index(letter))
    logits = np.eye(3, dtype=np.float32)[given]
    if options.pop("operating_points", False):
        classes = np.array([LABELS.index(example.label) for example in examples])
        options["operating_points"] = fit_operating_points(
            LABELS, classes, probabilities(logits, TEMPERATURE), split="dev", targets=(0.75,)
        )
    return evaluate_logits(LABELS, examples, logits, TEMPERATURE, replicates=200, **options)


def card(**changes: Any) -> str:
    fitted = {"model": "Keras float32", "split": "dev", "in_full": False, **evaluated()}
    final = {"model": "int8 artifact", "split": "test", "in_full": True, **evaluated(operating_points=True)}
    run = {
        "recipe": {"name": "default", "head": "pooled", "stages": [{"epochs": 1}, {"epochs": 4}]},
        "seed": 7,
        "backbone_weights": {"source": "cxr.h5", "sha256": "ab" * 32},
        "data": {
            "fingerprint": "cd" * 32,
            "splits": {"train": {"covid": 211, "normal": 176, "viral_pneumonia": 77}},
            "sources": ["Kermany et al. 2018"],
            "origins": ["adult, A"],
        },
    }
    row = {
        "file": "model.int8.onnx", "precision": "int8", "pictures": 1222, "flips": 3, "max_dp": 0.0421, "p99_dp": 0.017,
        "accuracy": 0.925, "reference_accuracy": 0.927, "flips_interval95": (0.0008, 0.0072), "ece": 0.021,
        "reference_ece": 0.019, "evidence": {"correlation_mean": 0.9912},
        "exceeds_defaults": [], "exceeds_on_test": [], "deciding": DECIDING,
    }  # fmt: skip
    values: dict[str, Any] = {
        "name": "xception-cxr",
        "version": "0.1.0",
        "labels": LABELS,
        "preprocessing": {"width": 299, "height": 299, "source_size": 224},
        "training": {"run": run},
        "evaluation": {
            "temperature": {
                "split": "dev", "temperature": TEMPERATURE, "nll_before": 0.25, "nll_after": 0.2, "pictures": 1222,
                "at_bound": False,
            },
            "models": [fitted, final],
        },
        "parity": {"split": "test", "gates": Gates().to_json(), "artifacts": [row], "elsewhere": []},
        "artifacts": [
            {
                "file": "model.int8.onnx", "precision": "int8", "bytes": 21_450_000, "opset": 17, "preferred": True,
                "speed": {"p50_ms": 18.93, "engine": "onnxruntime"},
            }
        ],
        "quantization": {"pictures": 128, "onnx": QUANTIZED},
    }  # fmt: skip
    return model_card(**{**values, **changes})


def row_of(text: str, beginning: str) -> list[str]:
    """The cells of the one row of a table that starts so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {beginning} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def section(text: str, title: str) -> str:
    return text[text.index(f"## {title}") :].split("\n## ")[0]


def test_the_card_holds_the_figures() -> None:
    text = card(notes=["dev was seen by the backbone weights"])
    for figure in (
        "| viral_pneumonia | 1 | 1 | 7 |",
        "| train | 211 | 176 | 77 |",
        "softmax(logits / 0.8123)",
        "| `model.int8.onnx` (preferred) | 21.4 | 3 of 1222 (0.08–0.72 %) | 0.042 | 0.017 | 92.5% (92.7%) "
        "| 2.1% (1.9%) | 0.991 | 18.9 (onnxruntime) |",
        "| `model.int8.onnx` | 1 of 600 (0.03–0.94 %) | 0.17 (0.00 to 0.50) | 5.10% (4.5–6 %) | 0.07 |",
        "fp16 0.01 in any probability",
        "int8 0.3 points of accuracy, 0.5% flips, 10% in logits",
        "what cxr.h5 was fitted on isn't known; where it has learnt from pictures of dev, the temperature",
        "ranges 99.99, channels made alike, weights rounded to second order, as chosen on half of dev",
        "2 convolutions stay float32",
        "`cxr.h5`, SHA-256 `" + "ab" * 32,
        "- dev was seen by the backbone weights",
        "first reduced to 224 px",
        "calibrated on 128 training pictures",
    ):
        assert figure in text
    assert text.count("not a medical device") == 1
    assert "nan" not in text.lower().split()


def test_every_figure_stands_with_its_interval() -> None:
    """Values by hand; intervals as the report has them, which the tests of evaluation compare with others."""
    text = section(card(), "Figures: int8 artifact on test")
    report = evaluated(operating_points=True)
    low, high = report["accuracy"]["interval95"]
    assert row_of(text, "accuracy, all classes") == [
        "accuracy, all classes",
        "81.5%",
        f"{low:.1%}–{high:.1%}",
        "22 of 27",
    ]
    expected = {
        "sensitivity, covid": ("88.9%", "8 of 9"),
        "specificity, covid": ("88.9%", "16 of 18"),
        "PPV, viral_pneumonia": ("87.5%", "7 of 8"),
        "normal found, of pediatric, C": ("80.0%", "4 of 5"),
        "viral pneumonia against paediatric normal: accuracy": ("78.6%", "11 of 14"),
        "viral pneumonia against paediatric normal: normal found": ("80.0%", "4 of 5"),
        "covid against adult normal: accuracy": ("84.6%", "11 of 13"),
        "covid against adult normal: covid found": ("88.9%", "8 of 9"),
    }
    for name, (value, pictures) in expected.items():
        _, shown, interval, counted = row_of(text, name)
        assert (shown, counted) == (value, pictures)
        assert "–" in interval
    for name in ("balanced accuracy", "macro F1", "macro AUROC", "AUROC, covid", "covid against adult normal: AUROC"):
        assert row_of(text, name)[1]


def test_calibration_before_and_after() -> None:
    text = section(card(), "Probabilities")
    report = evaluated()["calibration"]
    for name in ("Keras float32, dev (fitted here)", "int8 artifact, test"):
        cells = row_of(text, name)
        assert cells[1:3] == [f"{report[when]['ece']['value']:.1%}" for when in ("before", "after")]
        assert cells[4:6] == [f"{report[when]['brier']['value']:.3f}" for when in ("before", "after")]


def test_operating_points_are_a_section_where_the_bundle_has_some() -> None:
    text = section(card(), "Operating points")
    # Logits of 0 and 1 give two scores: 1 / (2 + e^(1 / T)) and e^(1 / T) times that; three quarters of the covid
    # pictures are found by a threshold midway, and two of the 18 others lie above it.
    steep = np.exp(1 / TEMPERATURE)
    assert row_of(text, "covid")[1:4] == [f"{(1 + steep) / 2 / (2 + steep):.4f}", "88.9% / 88.9%", "88.9%"]
    assert "In `bundle.json`" in text
    without = {"model": "int8 artifact", "split": "test", "in_full": True, **evaluated()}
    fitted = {"split": "dev", "temperature": 1.0, "pictures": 27, "at_bound": True}
    assert "excludes what they promise" not in text
    text = card(evaluation={"temperature": fitted, "models": [without]})
    assert "## Operating points" not in text
    assert "take the probabilities with care" in text


def test_the_card_s_twins_are_a_section_of_their_own_where_there_are_any() -> None:
    assert "small twins" not in card()
    shipped = {"source_size": 224, "agree": 124, "total": 126, "max_dp": 0.2, "mean_dp": 0.01}
    twins = {"as_shipped": shipped, "source_size_switched": {**shipped, "source_size": None, "agree": 120}}
    text = card(twins=twins)
    assert "| originals first reduced to 224 px (as shipped) | 124 of 126 | 0.2 | 0.01 |" in text
    assert "| originals as they are | 120 of 126 | 0.2 | 0.01 |" in text
    assert "(films of every split, learnt ones too)" in text
    assert "(test films)" in card(twins={**twins, "split": "test"})


def test_what_is_measured_elsewhere_and_on_test_is_said_and_decides_nothing() -> None:
    assert "pictures from elsewhere\n" not in card()
    row = {
        "file": "model.int8.onnx", "flips": 2, "pictures": 150, "flips_interval95": (0.004, 0.047), "max_dp": 0.09,
        "p99_logits": 0.062, "accuracy": 0.9, "reference_accuracy": 0.91,
    }  # fmt: skip
    breach = "12 flips of 1222 pictures of test (0.98%), at most 0.5%"
    measured = {
        "file": "model.int8.onnx", "pictures": 1222, "flips": 12, "max_dp": 0.1, "p99_dp": 0.05, "accuracy": 0.9,
        "reference_accuracy": 0.9, "flips_interval95": (0.005, 0.017), "ece": 0.02, "reference_ece": 0.02,
        "evidence": {"correlation_mean": 1.0}, "exceeds_defaults": [], "exceeds_on_test": [breach],
        "deciding": DECIDING,
    }  # fmt: skip
    elsewhere = [{"data": "originals", "pictures": 150, "left_out": 7, "artifacts": [row]}]
    parity = {"split": "test", "gates": Gates().to_json(), "artifacts": [measured], "elsewhere": elsewhere}
    text = card(parity=parity)
    assert f"On test, which decides nothing, `model.int8.onnx` has {breach}." in text
    cells = row_of(section(text, "Artifacts on pictures"), "originals (7 of other classes left out)")
    assert cells[1:] == ["`model.int8.onnx`", "2 of 150 (0.4–4.7 %)", "0.09", "6.20%", "90.0% (91.0%)"]


def test_limits_that_were_moved_are_said_first() -> None:
    def parity(breaches: list[str]) -> dict[str, Any]:
        measured = {
            "file": "model.int8.onnx", "pictures": 1222, "flips": 12, "max_dp": 0.1, "p99_dp": 0.05, "accuracy": 0.9,
            "reference_accuracy": 0.9, "flips_interval95": (0.005, 0.017), "ece": 0.02, "reference_ece": 0.02,
            "evidence": {"correlation_mean": 1.0}, "exceeds_defaults": breaches, "exceeds_on_test": [],
            "deciding": DECIDING,
        }  # fmt: skip
        return {"split": "test", "gates": Gates().to_json(), "artifacts": [measured], "elsewhere": []}

    assert "would have been refused" not in card(parity=parity([]))
    text = card(parity=parity(["4 flips", "logits off"]))
    assert "`model.int8.onnx` would have been refused; they were moved for it. It has 4 flips; logits off." in text
    assert text.index("would have been refused") < text.index("## Intended use")


def test_a_thumbnail_s_figure_stands_for_each_place() -> None:
    def finding(within: str | None, share: float, **changes: object) -> dict[str, object]:
        values = {
            "target": "label", "source": "thumbnail", "within": within, "classes": ["covid", "normal"], "pictures": 200,
            "balanced_accuracy": share, "interval95": [share - 0.1, share + 0.1], "chance": 0.5,
        }  # fmt: skip
        return {"values": {**values, **changes}}

    others = [finding(None, 0.6, source="border"), finding("covid", 0.7, target="origin"), {"values": {}}]
    found = [finding(None, 0.8), finding("SIIM", 0.65), *others]
    text = card(audits=[{"schema": 3, "data": "films", "where": {}, "findings": found}])
    table = section(text, "What a thumbnail tells")
    assert [line for line in table.splitlines() if line.startswith("| films")] == [
        "| films | all | covid, normal | 80.0% | 70.0%–90.0% | 50.0% | 200 |",
        "| films | SIIM | covid, normal | 65.0% | 55.0%–75.0% | 50.0% | 200 |",
    ]
    assert "What a thumbnail tells" not in card()


def test_another_source_comes_before_the_data_s_own_test_split() -> None:
    # Adults only, and no viral pneumonia: what can't be measured there is said, and no figure stands for it.
    report = evaluated((("covid", "adult, X", "ccn"), ("normal", "adult, X", "ccnnnnnnn")))
    asked = {"data": "elsewhere", "where": {}, "precision": "int8", "rejected": [{"file": "x.png", "reason": "blank"}]}
    text = card(other_sources=[{**asked, **report}])
    other, own = text.index("## Another source: the int8 artifact on elsewhere"), text.index("## Figures: ")
    assert other < own
    there = text[other:own]
    assert row_of(there, "accuracy, all classes")[1::2] == ["75.0%", "9 of 12"]
    assert "1 pictures were rejected" in there
    assert row_of(there, "viral pneumonia against paediatric normal")[1].startswith("not measured: the origins name no")
    assert row_of(there, "covid against adult normal: accuracy")[1] == "75.0%"
    assert "sensitivity, viral_pneumonia" not in there


def test_films_of_a_place_that_was_learnt_from_are_not_called_another_source() -> None:
    asked = {"data": "films", "where": {"source": "siim"}, "precision": "int8", "rejected": []}
    for origin, title in (("adult, A", "Within one source"), ("adult, X", "Another source")):
        report = evaluated((("covid", origin, "ccn"), ("normal", origin, "nnn")))
        assert f"## {title}: the int8 artifact on films, source = siim\n" in card(other_sources=[{**asked, **report}])


def test_a_name_cannot_break_a_table() -> None:
    report = evaluated((("covid", "a | b\nc", "ccn"), ("normal", "a | b\nc", "nnn")))
    asked = {"data": "elsewhere", "where": {}, "precision": "int8", "rejected": []}
    assert "| covid found, of a \\| b c | 66.7% |" in card(other_sources=[{**asked, **report}])


def test_an_artifact_that_ran_on_no_gpu_is_said_to_be_unverified() -> None:
    row = {"file": "model.fp16.onnx", "precision": "fp16", "bytes": 42_000_000, "opset": 17, "preferred": False}
    measured = {
        "file": "model.fp16.onnx", "pictures": 1222, "flips": 0, "max_dp": 0.001, "p99_dp": 0.001, "accuracy": 0.9,
        "reference_accuracy": 0.9, "flips_interval95": (0.0, 0.003), "ece": 0.02, "reference_ece": 0.02,
        "evidence": {"correlation_mean": 1.0},
        "exceeds_defaults": [], "exceeds_on_test": [], "deciding": DECIDING,
    }  # fmt: skip
    parity = {"split": "test", "gates": Gates().to_json(), "artifacts": [measured], "elsewhere": []}
    said = "`model.fp16.onnx` is for GPUs and has run on none yet"
    assert said in card(artifacts=[{**row, "unverified": True}], parity=parity, quantization=None)
    assert said not in card(artifacts=[{**row, "unverified": False}], parity=parity, quantization=None)


def test_the_card_says_when_it_gives_no_answer() -> None:
    """On what abstention was fitted, with the terms as found; what it keeps; and what it isn't."""
    assert "nothing abstains" in section(card(), "Limits")
    kinds = [
        {"kind": "lateral", "near": True, "source": "A", "terms": ["CC BY 4.0", "none stated"], "pictures": 26},
        {"kind": "hand", "near": False, "source": "", "terms": ["CC0"], "pictures": 40},
    ]
    fitted = {
        "films": 2500,
        "groups": [],
        "altered": [{"way": "rotated", "pictures": 150}],
        "outliers": {"data": "ood", "rejected": 0, "kinds": kinds},
    }
    turned = {"source": "S", "abstained": 3, "pictures": 200, "interval95": (0.005, 0.043)}
    threshold = {"artifact": "model.int8.onnx", "engine": "openvino", "precision": "int8", "threshold": 3.14159}
    report = {
        "fitted_on": fitted,
        "kept": 0.995,
        "split": "dev (deciding half)",
        "pictures": 690,
        "thresholds": [threshold],
        "test": [{"artifact": "model.int8.onnx", "engine": "openvino", "sources": [turned]}],
    }
    text = card(abstention=report)
    told = section(text, "When it gives no answer")
    for figure in (
        "| lateral (near) | A | CC BY 4.0; none stated | 26 |",
        "| hand | not stated | CC0 | 40 |",
        "| rotated film | training films, altered here | those of the training data | 150 |",
        "| `model.int8.onnx` | openvino | int8 | 3.142 |",
        "keep 99.5% of films like the 690 of dev (deciding half)",
        "| S | 3 of 200 | 1.5% | 0.5%–4.3% |",
        "no detector of an unfamiliar hospital",
    ):
        assert figure in told
    assert "Abstention detects no unfamiliar hospital" in section(text, "Limits")
    assert "`ood`, how far" in text
    alone = card(abstention={**report, "fitted_on": {**fitted, "outliers": None}})
    assert "No picture of other kinds was shown to it." in section(alone, "When it gives no answer")
