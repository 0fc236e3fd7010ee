"""Whether a picture is answered at all: its network's `ood` against a threshold; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edgecxr.bundle import Abstention
from edgecxr.engines.select import Choice
from edgecxr.errors import UsageError

# Where the threshold comes from: the bundle, or who asked. `off`: none, as was asked; `none`: the bundle has none.
By = Literal["bundle", "asked", "off", "none"]


@dataclass(frozen=True)
class Wish:
    """What was asked for beside the bundle's own thresholds."""

    abstain: bool = True
    at: float | None = None  # a threshold in place of the bundle's

    def __post_init__(self) -> None:
        """Raises UsageError for a threshold that isn't finite, and for one where nothing is to abstain."""
        if self.at is not None and not math.isfinite(self.at):
            raise UsageError(f"a threshold of abstention must be a finite number, got {self.at}")
        if self.at is not None and not self.abstain:
            raise UsageError(f"give either a threshold of abstention or that nothing abstains, got both: {self.at}")


BUNDLES_OWN = Wish()


@dataclass(frozen=True)
class Rule:
    """When a picture isn't answered: where its ood is `threshold` or more. None: each is answered."""

    by: By = "none"
    threshold: float | None = None

    def abstains(self, ood: float | None) -> bool:
        """Whether a picture of this finite ood isn't answered."""
        return self.threshold is not None and ood is not None and ood >= self.threshold


ANSWERS_ALL = Rule()


def rule(abstention: Abstention | None, choice: Choice, wish: Wish = BUNDLES_OWN) -> Rule:
    """When what was chosen gives no answer.

    A precision without a threshold of its own on this engine takes that of the artifact's, and an engine without any
    the largest one of the artifact, which keeps the most films. Raises UsageError for a threshold that was asked for
    where the network has no output ood.
    """
    if not wish.abstain:
        return Rule("off")
    file = choice.artifact.file
    rows = abstention.thresholds if abstention else ()
    own = {(row.engine, row.precision): row.threshold for row in rows if row.artifact == file}
    if wish.at is not None:
        if not own:
            raise UsageError(f"a threshold of abstention needs a network with the output ood, {file} has none")
        return Rule("asked", wish.at)
    for computed in (choice.precision, choice.artifact.precision):
        if (choice.engine, computed) in own:
            return Rule("bundle", own[choice.engine, computed])
    return Rule("bundle", max(own.values())) if own else ANSWERS_ALL
