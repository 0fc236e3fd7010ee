"""The gates: what passes by a hair, and what fails by one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from edgecxr_export.parity.compare import Parity
from edgecxr_export.parity.gates import Gates

PASSING = Parity(
    engine="onnxruntime",
    provider="CPU",
    split="test",
    pictures=1000,
    flips=0,
    flips_interval95=(0.0, 0.004),
    flipped_files=(),
    decided_flips=0,
    max_dp=9e-5,
    p99_dp=1e-5,
    mean_dp=1e-6,
    p99_logits=1e-4,
    p99_logits_interval95=None,
    max_dlogit=1e-4,
    accuracy=0.9,
    reference_accuracy=0.9,
    drop_interval95=None,
    ece=0.01,
    reference_ece=0.01,
)
NAN = float("nan")


@pytest.mark.parametrize("change", [{"max_dp": 1.1e-4}, {"flips": 1}, {"max_dp": NAN}])
def test_fp32(change: dict[str, float]) -> None:
    assert Gates().breaches("fp32", PASSING) == []
    assert Gates().breaches("fp32", replace(PASSING, **change))  # type: ignore[arg-type]


def test_fp16_may_flip_where_the_reference_is_undecided() -> None:
    assert Gates().breaches("fp16", replace(PASSING, flips=3, max_dp=0.01)) == []
    (said,) = Gates().breaches("fp16", replace(PASSING, flips=3, decided_flips=1, max_dp=0.01))
    assert said == "1 flips of 1000 pictures of test where the two likeliest classes are 0.01 apart or more"
    assert Gates().breaches("fp16", replace(PASSING, max_dp=NAN))
    assert Gates().breaches("fp16", replace(PASSING, max_dp=0.011)) == ["max |Δp| of 0.011, at most 0.01"]


@pytest.mark.parametrize(
    ("passes", "fails", "message"),
    [
        ({"accuracy": 0.897}, {"accuracy": 0.896}, "accuracy 0.40 points lower, at most 0.3"),
        ({"flips": 5}, {"flips": 6}, r"6 flips of 1000 pictures of test \(0.60%\), at most 0.5%"),
        ({"p99_logits": 0.1}, {"p99_logits": 0.101}, r"logits 10\.1% of their spread off .*, at most 10%"),
        ({"accuracy": 0.95}, {"p99_logits": NAN}, "logits nan%"),
    ],
)
def test_int8(passes: dict[str, float], fails: dict[str, float], message: str) -> None:
    assert Gates().breaches("int8", replace(PASSING, max_dp=0.2, p99_dp=0.2, **passes)) == []  # type: ignore[arg-type]
    breaches = Gates().breaches("int8", replace(PASSING, **fails))  # type: ignore[arg-type]
    assert len(breaches) == 1
    assert re.search(message, breaches[0])


def test_limits_can_be_moved() -> None:
    wider = Gates(max_drop=0.01, max_flips=0.02)
    assert wider.breaches("int8", replace(PASSING, accuracy=0.891, flips=20)) == []
    assert len(wider.breaches("int8", replace(PASSING, accuracy=0.889, flips=21))) == 2
