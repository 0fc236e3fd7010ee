"""What the weights that a RUN began with may have seen: a dev that was learnt flatters whatever is fitted on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Files of weights that saw no film. Keras Applications' Xception of ImageNet, its kernels rounded to float16.
WITHOUT_FILMS = {"17f1d09243ebee68f49a4adf721bf2d9f79cf5240ae85af71dfb70ca89a8809f"}

FLATTER = (
    "where it has learnt from pictures of dev, the temperature and the operating points rest on films that were "
    "learnt, and figures on dev flatter"
)


def strangers(backbone: Mapping[str, Any], fingerprint: str) -> list[str]:
    """Half a sentence for each of the weights that may have learnt from dev or test pictures, the last fit's first.

    `backbone` is `backbone_weights` of a run.json, whose data have that `fingerprint`: of pictures, labels and splits.
    A RUN that was fitted on the same has learnt from train alone, and so had the one in whose backbone that began; but
    where its recipe has `biases_on_dev`.
    """
    found = []
    generation: Mapping[str, Any] | None = backbone
    while generation:
        source = generation["source"]
        if "fitted_on" in generation:
            if generation["fitted_on"] != fingerprint:
                found.append(f"{source} was fitted on other data or other splits")
            elif generation.get("recipe", {}).get("biases_on_dev"):
                found.append(f"the biases of {source} were fitted on dev")
        elif "sha256" in generation and generation["sha256"] not in WITHOUT_FILMS:
            found.append(f"what {source} was fitted on isn't known")
        generation = generation.get("backbone_weights")
    return found


def doubts(description: Mapping[str, Any]) -> list[str]:
    """`strangers` of a run.json, and before them what its own fit learnt from dev."""
    own = ["a bias for each class was fitted on dev"] if description.get("recipe", {}).get("biases_on_dev") else []
    return own + strangers(description["backbone_weights"], description["data"]["fingerprint"])
