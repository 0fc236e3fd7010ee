"""What an artifact must keep of the trained model to be shipped; pure. Point estimates decide."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgecxr_export.parity.compare import EDGE, Parity


@dataclass(frozen=True)
class Gates:
    """Limits for each precision."""

    # fp32 is the same arithmetic in another order: no picture may change its class, and no probability move by this.
    fp32_max_dp: float = 1e-4
    # int8: shares (0.003 is 0.3 points), and the 99th percentile over pictures of |difference| of a probability.
    max_drop: float = 0.003
    max_flips: float = 0.005
    int8_p99_dp: float = 0.05

    def breaches(self, precision: str, found: Parity) -> list[str]:
        """What the artifact exceeds, each as half a sentence; empty where it passes. A NaN exceeds everything."""
        where = f"of {found.pictures} pictures of {found.split}"
        if precision == "fp32":
            return _exceeded(
                (found.max_dp, self.fp32_max_dp, f"max |Δp| of {found.max_dp:.2g}, at most {self.fp32_max_dp:g}"),
                (found.flips, 0, f"{found.flips} flips {where}, none allowed"),
            )
        if precision == "fp16":
            # Halves round: where the reference itself is undecided, either answer is as good.
            said = f"{found.decided_flips} flips {where} where the two likeliest classes are {EDGE:g} apart or more"
            return _exceeded((found.decided_flips, 0, said), (0.0 if math.isfinite(found.max_dp) else 1, 0, "NaN"))
        flips, drop = found.flips / found.pictures, found.drop
        return _exceeded(
            (drop, self.max_drop, f"an accuracy {100 * drop:.2f} points lower, at most {100 * self.max_drop:g}"),
            (flips, self.max_flips, f"{found.flips} flips {where} ({flips:.2%}), at most {self.max_flips:.1%}"),
            (found.p99_dp, self.int8_p99_dp, f"p99 |Δp| of {found.p99_dp:.2g}, at most {self.int8_p99_dp:g}"),
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fp16_edge": EDGE}


def _exceeded(*figures: tuple[float, float, str]) -> list[str]:
    # Written so that a NaN exceeds; a share that is the limit but for the last bit doesn't.
    return [said for value, limit, said in figures if not value <= limit + 1e-12]
