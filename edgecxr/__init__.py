"""edgecxr: an Xception chest X-ray classifier from training to the device, with the same answer at both ends.

    edgecxr.Classifier     score pictures from Python: paths, bytes or grey arrays
    edgecxr.Prediction     what comes back, one for each picture
    edgecxr.load           open and check a bundle, the directory that passes from the lab to the device
    edgecxr.errors         what can go wrong, as a tree

The parts behind it lie along the way of a picture, and each imports only from those above it:

    system, views          what the machine gives; what people look at
    pictures               a path becomes the network's input (the trust boundary)
    bundle, records        a model on disk, opened and checked; a prediction becomes a line that survives
    engines                what runs the network
    scoring                the loop over pictures, and who asks: a folder, stdin
    device                 is it right here, what is here, what is fastest here
    classifier             the Python API that a device embeds
    bench, lab             how fast it is here; what a device never needs: data, training, evaluation, audit
    edgecxr_export, cli    the export stage, a package of its own; a module a verb

The runtime is the device, the extras are the lab: only `cli` and `edgecxr_export` know `lab`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Bundle", "Classifier", "Prediction", "errors", "load"]

if TYPE_CHECKING:
    from edgecxr import errors
    from edgecxr.bundle import Bundle, load
    from edgecxr.classifier import Classifier
    from edgecxr.records.prediction import Prediction

_HOMES = {"Bundle": "bundle", "load": "bundle", "Classifier": "classifier", "Prediction": "records.prediction"}


def __getattr__(name: str) -> Any:
    # On demand, so that `edgecxr --help` doesn't wait for numpy and pillow.
    if name == "errors":
        return import_module("edgecxr.errors")
    if name in _HOMES:
        return getattr(import_module(f"edgecxr.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'edgecxr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
