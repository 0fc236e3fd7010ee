"""The Python API that a device embeds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from edgecxr.bundle import Bundle, load
from edgecxr.device.golden import self_test as run_self_test
from edgecxr.engines.select import Asked
from edgecxr.errors import PictureRejected, UsageError
from edgecxr.records.prediction import Prediction
from edgecxr.scoring import overlays, pipeline
from edgecxr.scoring.abstention import Wish
from edgecxr.scoring.session import Session, open_session


class Classifier:
    """A loaded classifier; thread-safe.

    >>> import edgecxr
    >>> classifier = edgecxr.Classifier()
    >>> prediction = classifier.predict("samples/phantom-1.png")
    >>> prediction.status, prediction.label  # a drawn phantom is no film
    ('abstained', None)
    >>> round(sum(prediction.probabilities.values()), 6)
    1.0
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Bundle | None = None,
        device: str = "auto",
        *,
        engine: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        workers: int | None = 1,
        batch_size: int | None = None,
        abstain: bool = True,
        abstain_at: float | None = None,
        self_test: bool = False,
    ) -> None:
        """Open `bundle` (a path, `full` or `edge`, an opened Bundle, or None for `edge`) on `device`.

        `engine` is onnxruntime, openvino or litert, `precision` fp32, bf16 (openvino), fp16, int8 or
        int8-symmetric; `auto` chooses.
        One worker with every CPU's thread is the lowest latency for `predict`; `workers=None` makes one-threaded
        workers, one a CPU, the highest throughput for `stream`. Raises BundleError and UnavailableError, and UsageError
        for a name that there isn't.

        A picture that is too unlike frontal chest films comes back without a label, where the bundle can tell. With
        `abstain=False` every picture gets one; `abstain_at` is a threshold on `ood_score` in place of the bundle's.
        Raises UsageError for one that isn't finite, or that the network has no score for.

        `self_test` runs the bundle's golden vectors first, on the very engine that then scores, and raises GateError
        where this device doesn't give the bundle's answers.
        """
        opened = bundle if isinstance(bundle, Bundle) else load(bundle)
        self._session = open_session(
            opened,
            Asked(engine, device, precision),
            threads=threads,
            workers=workers,
            batch_size=batch_size,
            wish=Wish(abstain, abstain_at),
        )
        if self_test:
            run_self_test(opened, self._session.artifact, self._session.engine)

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a Classifier can't be pickled, its engine lives in one process; open one in each, with the same "
            f"arguments, got: {self.bundle.path}"
        )

    @property
    def bundle(self) -> Bundle:
        return self._session.bundle

    @property
    def labels(self) -> tuple[str, ...]:
        return self._session.bundle.labels

    @property
    def session(self) -> Session:
        """The opened artifact, engine and plan, for those who want the parts."""
        return self._session

    def predict(self, picture: str | os.PathLike[str] | bytes | npt.NDArray[np.generic]) -> Prediction:
        """Score one picture: a path, the bytes of a file, or a grey array (H, W), uint8 or uint16, black is zero.

        A picture that can't be scored comes back as a Prediction whose status is `rejected`, with the reason. One that
        is too unlike frontal chest films is `abstained`: it has no label, its logits and `ood_score` are there. Raises
        UsageError for an argument that isn't a picture at all, a float array above all: its range can't be known.
        """
        return pipeline.score(self._session, [_source(picture)])[0]

    def stream(self, paths: Iterable[str | os.PathLike[str]]) -> Iterator[Prediction]:
        """Score files as they are read, one Prediction each, in the order of `paths`, in bounded memory."""
        if isinstance(paths, (str, bytes, os.PathLike)):
            raise UsageError("expected several paths, got one; Classifier.predict takes one")
        return pipeline.stream(self._session, (Path(path) for path in paths))

    def evidence(self, picture: str | os.PathLike[str] | bytes | npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Each location's share of each class's logit, (h, w, K) in the order of `labels`; not a segmentation.

        Class activation mapping after Zhou et al., CVPR 2016; summed over h and w it is the logit without its bias.
        An abstained picture has its map too. Raises PictureRejected where the picture can't be scored.
        """
        prediction, evidence = pipeline.explain(self._session, _source(picture))
        if evidence is None:
            raise PictureRejected(prediction.error_code, prediction.error_message)  # type: ignore[arg-type]  # both there
        return evidence

    def overlay(self, picture: str | os.PathLike[str] | bytes | npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
        """The picture at up to 1,024 px and beside it the same with the evidence for its answer, uint8 (H, W, 3), RGB.

        Orange and solid lines speak for the class, blue and dashed lines against it; it isn't a segmentation. Drawn of
        the very run that answers. The words on it name no file. Raises PictureRejected where it can't be scored.
        """
        return overlays.overlay_of(self._session, _source(picture))


def _source(picture: object) -> pipeline.Source:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, (str, os.PathLike)):
        return Path(picture)
    if not isinstance(picture, np.ndarray):
        raise UsageError(f"expected a path, bytes or a grey array, got {type(picture).__name__}")
    if picture.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise UsageError(f"expected a grey array of uint8 or uint16 as the detector gave it, got {picture.dtype}")
    if picture.ndim != 2 or picture.size == 0:
        raise UsageError(f"expected a grey array of shape (H, W), got {picture.shape}")
    return picture.astype(picture.dtype.newbyteorder("="), copy=False)  # in the byte order of this machine
