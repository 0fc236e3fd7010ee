"""What changed between two quick reports, beyond their spread.

The rule: a case changed where every round of one report lies beyond every round of the other, and the medians differ by
at least LEAST_CHANGE. For n rounds against m, complete separation has the probability 2 / C(n + m, n) if nothing
changed (the extreme case of Mann and Whitney's U, Annals of Mathematical Statistics 18, 1947): 2 / 252 for five against
five, 2 / 20 for three against three. Rounds of one process share its memory layout and its neighbours, so that two runs
of the same program differ more than their rounds do (Kalibera and Jones, "Rigorous benchmarking in reasonable time",
ISMM 2013): LEAST_CHANGE stands for that, and a change that matters is one that a second pair of runs shows again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from edgecxr.errors import UsageError

LEAST_CHANGE = 0.03  # of the earlier median: below, nobody should care
IDENTITY = ("model", "artifact", "precision", "engine", "device", "what", "batch_size", "workers", "threads")
MACHINE = ("cpu", "cpu_features", "cpus_usable", "gpus", "memory_bytes", "system", "python", "packages")


@dataclass(frozen=True)
class Change:
    """One figure of one case in two reports."""

    case: Mapping[str, Any]  # of IDENTITY
    figure: str  # "p50_ms", "pictures/s" or "first record, s"
    before: float  # median over the rounds
    after: float
    ratio: float  # after / before
    chance: float  # of such a separation if nothing had changed; 1 where the rounds overlap
    verdict: str  # "faster", "slower" or "same"


def compare(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """What changed, as JSON-able data; raises UsageError where the reports aren't two quick ones.

    `machine_differs` and `bundle_differs` name what else is different: then a change has more than one explanation.
    """
    for which in (earlier, later):
        if which["kind"] != "quick":
            raise UsageError(f"--compare takes two reports of the default measurement, got one of kind {which['kind']}")
    try:
        for which in (earlier, later):
            _check_rounds(which["results"])
        changes = list(_changes(earlier, later))
        before, after = (_keys(which["results"]) for which in (earlier, later))
        machines = [which["machine"] for which in (earlier, later)]
        return {
            "rule": f"every round beyond every round of the other, and medians at least {LEAST_CHANGE:.0%} apart",
            "changes": [change.__dict__ for change in changes],
            "only_before": [dict(key) for key in before if key not in after],
            "only_after": [dict(key) for key in after if key not in before],
            "machine_differs": [name for name in MACHINE if machines[0].get(name) != machines[1].get(name)],
            "bundle_differs": _digests(earlier) != _digests(later),
            "pictures_differ": earlier["pictures"] != later["pictures"],
        }
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UsageError(f"the report to compare with lacks or garbles a field ({error})") from None


def _digests(report: Mapping[str, Any]) -> list[str]:
    return [bundle["sha256"] for bundle in report.get("models") or [report["bundle"]]]


def _changes(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> Any:
    before, after = (_keys(which["results"]) for which in (earlier, later))
    for key in [key for key in before if key in after]:
        old, new = before[key]["rounds"], after[key]["rounds"]
        if old["p50_ms"] and new["p50_ms"]:
            yield change(dict(key), "p50_ms", old["p50_ms"], new["p50_ms"], less_is_faster=True)
        else:
            yield change(dict(key), "pictures/s", old["throughput"], new["throughput"], less_is_faster=False)
    before, after = (_keys(which["cold_start"]) for which in (earlier, later))
    for key in [key for key in before if key in after]:
        case = {**dict(key), "what": "cold start"}
        yield change(case, "first record, s", before[key]["rounds"], after[key]["rounds"], less_is_faster=True)


def _keys(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[tuple[str, Any], ...], Mapping[str, Any]]:
    return {tuple((name, row[name]) for name in IDENTITY if name in row): row for row in rows}


def _check_rounds(rows: Sequence[Mapping[str, Any]]) -> None:
    """Both figures, whichever will be compared: a report that passes against itself passes against any."""
    for row in rows:
        _check("pictures/s", row["rounds"]["throughput"])
        if row["rounds"]["p50_ms"] is not None:
            _check("p50_ms", row["rounds"]["p50_ms"])


def _check(figure: str, values: Sequence[float]) -> None:
    if not values:
        raise ValueError(f"no rounds of {figure}")
    for value in values:
        if isinstance(value, str) or not 0 < float(value) < math.inf:
            raise ValueError(f"a round's {figure} of {value}")


def change(
    case: Mapping[str, Any], figure: str, before: Sequence[float], after: Sequence[float], *, less_is_faster: bool
) -> Change:
    """Compare the rounds' own values of one figure by the rule above."""
    _check(figure, before)
    _check(figure, after)
    middle = median(before), median(after)
    ratio = middle[1] / middle[0]
    apart = max(before) < min(after) or max(after) < min(before)
    chance = min(1.0, 2 / math.comb(len(before) + len(after), len(before))) if apart else 1.0
    verdict = "same"
    # With one round or two against few, separation happens by chance too often to mean anything.
    if apart and abs(ratio - 1) >= LEAST_CHANGE and chance <= 0.1:
        verdict = "faster" if (ratio < 1) == less_is_faster else "slower"
    return Change(case, figure, middle[0], middle[1], ratio, chance, verdict)
