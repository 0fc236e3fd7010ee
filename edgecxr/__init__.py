"""edgecxr: an Xception chest X-ray classifier from training to the device, with the same answer at both ends.

    edgecxr.Classifier     score pictures from Python: paths, bytes or grey arrays
    edgecxr.Prediction     what comes back, one for each picture
    edgecxr.load           open and check a bundle, the directory that passes from the lab to the device
    edgecxr.errors         what can go wrong, as a tree

The parts behind it: `images` reads and decodes (the trust boundary), `preprocess` makes the network's input, `engines`
run the network, `postprocess` turns logits into probabilities, `pipeline` is the loop over files, `records` is what is
written down, `bench` and `verify` say how fast and how right this machine is. `edgecxr.train` and the separate package
`edgecxr_export` are the lab; nothing here imports them.
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
    from edgecxr.records import Prediction

_HOMES = {"Bundle": "bundle", "load": "bundle", "Classifier": "classifier", "Prediction": "records"}


def __getattr__(name: str) -> Any:
    # On demand, so that `edgecxr --help` doesn't wait for numpy and pillow.
    if name == "errors":
        return import_module("edgecxr.errors")
    if name in _HOMES:
        return getattr(import_module(f"edgecxr.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'edgecxr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
