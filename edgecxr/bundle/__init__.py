"""A model on disk: `reader` opens and checks a bundle, `network` a network file by itself, `thresholds` when
there is no answer."""

from edgecxr.bundle.reader import (
    CARD,
    EMBEDDED,
    FORMATS,
    GOLDEN_EXPECTED,
    GOLDEN_INPUTS,
    MANIFEST,
    METADATA_PREFIX,
    PRECISIONS,
    SCHEMA,
    SUFFIX,
    Artifact,
    Bundle,
    Expected,
    OperatingPoint,
    load,
    manifest_digest,
    parse,
)
from edgecxr.bundle.thresholds import Abstention, Threshold

__all__ = [
    "CARD",
    "EMBEDDED",
    "FORMATS",
    "GOLDEN_EXPECTED",
    "GOLDEN_INPUTS",
    "MANIFEST",
    "METADATA_PREFIX",
    "PRECISIONS",
    "SCHEMA",
    "SUFFIX",
    "Abstention",
    "Artifact",
    "Bundle",
    "Expected",
    "OperatingPoint",
    "Threshold",
    "load",
    "manifest_digest",
    "parse",
]
