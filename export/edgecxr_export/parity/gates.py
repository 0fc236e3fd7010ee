"""What an artifact must keep of the trained model to be shipped; pure. Point estimates decide.

They are those of the half of dev that chose nothing. Test is reported beside them, and decides nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgecxr_export.parity.compare import EDGE, Parity


@dataclass(frozen=True)
class Gates:
    """Limits for each precision."""

    # fp32 is the same arithmetic in another order: no picture may change its class, and no probability move by this.
    fp32_max_dp: float = 1e-4
    # fp16: bfloat16, with 3 bits less, moved 0.1.0's probabilities by 0.024 at most (700 test films), so halves that
    # are right stay far below this.
    fp16_max_dp: float = EDGE
    # int8: shares (0.003 is 0.3 points) of accuracy and of pictures.
    max_drop: float = 0.003
    max_flips: float = 0.005
    # int8: the 99th percentile over pictures of the largest error of a logit, as a share of how far a film's logits
    # lie apart (`logits`). Noise of this size flips 0.55 % of 204 dev films of 0.1.0's model, about what `max_flips`
    # allows; its own int8 file has 5 %, with a 99th percentile of |Δp| of 0.043 (0.05 was the limit before).
    int8_p99_logits: float = 0.10

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
            moved = f"max |Δp| of {found.max_dp:.2g}, at most {self.fp16_max_dp:g}"
            return _exceeded((found.decided_flips, 0, said), (found.max_dp, self.fp16_max_dp, moved))
        flips, drop = found.flips / found.pictures, found.drop
        moved = f"logits {found.p99_logits:.1%} of their spread off in the 99th percentile, at most " + (
            f"{self.int8_p99_logits:.0%}"
        )
        return _exceeded(
            (drop, self.max_drop, f"an accuracy {100 * drop:.2f} points lower, at most {100 * self.max_drop:g}"),
            (flips, self.max_flips, f"{found.flips} flips {where} ({flips:.2%}), at most {self.max_flips:.1%}"),
            (found.p99_logits, self.int8_p99_logits, moved),
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fp16_edge": EDGE}


def _exceeded(*figures: tuple[float, float, str]) -> list[str]:
    # Written so that a NaN exceeds; a share that is the limit but for the last bit doesn't.
    return [said for value, limit, said in figures if not value <= limit + 1e-12]
