"""Answered pictures drawn with the evidence for their answer: each of a run, one alone, and those of records."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgecxr.bundle import Bundle
from edgecxr.errors import PictureRejected, StorageError, UsageError
from edgecxr.pictures import decode as images
from edgecxr.pictures import files
from edgecxr.pictures.preprocess import to_uint8
from edgecxr.records.prediction import Prediction
from edgecxr.records.reader import Records
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import Session
from edgecxr.system import storage
from edgecxr.views import overlay
from edgecxr.views.terminal import shortened

MAX_NAME = 60  # characters of a file's name on a picture
PAGE_SIDE = 480  # px of a film's longer side in a page, which holds dozens
COMPRESSION = 1  # of a PNG, 1 to 9: noise of a film hardly shrinks further, and 6 takes several times as long
QUALITY = 85  # of a JPEG, 0 to 95


def drawn(
    bundle: Bundle,
    prediction: Prediction,
    picture: images.Picture,
    evidence: npt.NDArray[np.float32],
    *,
    name: bool = False,
    side: int = overlay.SHEET,
) -> overlay.Pixels:
    """(H, W, 3), uint8: a picture, and beside it the evidence (h, w, K) for its answer, with words above and below.

    Of what abstained, for the class of the greatest logit, and the words say that it is no answer. `name` puts the
    file's name on it, without its folders; `side` is the most px of the film's longer side.
    """
    label = max(prediction.logits, key=prediction.logits.__getitem__)
    made = prediction.provenance
    lines = [
        f"Evidence for {label}: its logit is {prediction.logits[label]:+.3g}",
        f"{made.model}, {made.precision} on {made.engine}, bundle {made.bundle_sha256[:12]}",
    ]
    if name and prediction.path is not None:
        lines.insert(0, shortened(Path(prediction.path).name, MAX_NAME))
    if prediction.label is not None:
        heading = f"{label}, probability {prediction.probabilities[label]:.3f}"
    else:
        far = "" if made.abstain_at is None else f" (ood {prediction.ood_score:.3g}, threshold {made.abstain_at:.3g})"
        heading = f"Abstained, no answer: too unlike frontal chest films{far}"
    film = to_uint8(picture.pixels, picture.bits)
    return overlay.sheet(film, evidence[..., bundle.labels.index(label)], heading, lines, side)


def overlay_of(session: Session, source: pipeline.Source) -> overlay.Pixels:
    """One picture as `drawn` has it; raises PictureRejected where it can't be scored."""
    _, pixels = _answered(session, source, overlay.SHEET)
    return pixels


def _answered(session: Session, source: pipeline.Source, side: int) -> tuple[Prediction, overlay.Pixels]:
    seen: list[overlay.Pixels] = []
    (prediction,) = pipeline.score(
        session,
        [source],
        lambda answer, picture, evidence: seen.append(drawn(session.bundle, answer, picture, evidence, side=side)),
    )
    if not seen:
        raise PictureRejected(prediction.error_code, prediction.error_message)  # type: ignore[arg-type]  # both there
    return prediction, seen[0]


@dataclass(frozen=True)
class Folder:
    """A folder that takes a PNG of each picture that is answered, under the hash of the picture's content."""

    path: Path
    bundle: Bundle
    names: bool = False  # whether a file's name stands on its picture

    def add(self, prediction: Prediction, picture: images.Picture, evidence: npt.NDArray[np.float32]) -> None:
        """Write one, whole or not at all, from any thread; raises StorageError where it can't be kept."""
        pixels = drawn(self.bundle, prediction, picture, evidence, name=self.names)
        place = self.path / f"{prediction.sha256}.png"
        try:
            with storage.replacing_bytes(place) as file:
                Image.fromarray(pixels).save(file, "PNG", compress_level=COMPRESSION)
        except OSError as error:
            raise StorageError(f"a picture with evidence can't be kept ({error.strerror}): {place}") from None


def check(folder: Path, *, going_on: bool) -> None:
    """Make the folder, for its owner alone, if it isn't there; raises UsageError where pictures can't be written, or
    where there is something in it that they might replace, and `going_on` doesn't say that they may."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        empty = next(folder.iterdir(), None) is None
    except OSError as error:
        raise UsageError(f"the folder of overlays can't be made ({error.strerror}): {folder}") from None
    if not (empty or going_on):
        raise UsageError(
            f"the folder of overlays isn't empty; give --overwrite to replace what is drawn again, or another: {folder}"
        )
    storage.check_writable(folder / f"{'0' * 64}.png")


def check_same_model(records: Records, bundle: Bundle) -> None:
    """Raises UsageError where another bundle than this one made any of the records."""
    for row in records.rows:
        model, digest = row.made[1:3]
        if digest != bundle.digest:
            raise UsageError(
                f"films are drawn by the bundle that made the records, {model} (sha256 {str(digest)[:12]}…); name it "
                f"with -m, got {bundle.name} {bundle.version} (sha256 {bundle.digest[:12]}…)"
            )


def chosen(records: Records, which: Literal["uncertain", "abstained", "both"], most: int) -> list[int]:
    """The records, by index, whose films are shown, `most` of them: the abstained ones, the furthest from films first,
    and the least sure answers. Of `both`, as many of one kind as of the other, where there are."""
    rows = records.rows
    sure = {index: row.confidence for index, row in enumerate(rows) if row.confidence is not None}
    uncertain = sorted(sure, key=sure.__getitem__)
    abstained = sorted(
        (index for index, row in enumerate(rows) if row.status == "abstained"),
        key=lambda index: -(rows[index].ood_score or 0.0),
    )
    if which == "both":
        half = max(most - len(uncertain), min(len(abstained), most // 2))
        return [*abstained[:half], *uncertain[: most - len(abstained[:half])]]
    return (uncertain if which == "uncertain" else abstained)[:most]


def films(session: Session, records: Records, rows: Sequence[int]) -> Iterator[tuple[int, bytes | None, str]]:
    """(row, JPEG or None, what is to be said of it) of each of these records' films, where it is still the same."""
    for index in rows:
        row = records.rows[index]
        jpeg, note = None, ""
        try:
            prediction, pixels = _answered(session, _same(row.path, row.sha256), PAGE_SIDE)
            if prediction.label != row.label:
                note = f"On this device, {session.engine.precision} on {session.engine.name}, the answer is another."
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "JPEG", quality=QUALITY)
            jpeg = content.getvalue()
        except PictureRejected as rejected:
            note = f"Not shown: {rejected.message}."
        yield index, jpeg, note


def _same(path: str | None, sha256: str | None) -> bytes:
    """The content that a record is of; raises PictureRejected where it isn't there any more."""
    if path is None or path.startswith(("sha256:", "unread:")):
        raise PictureRejected("unreadable", "the record names no file")
    try:
        data = files.read(Path(path))
    except PictureRejected as rejected:
        raise PictureRejected("unreadable", f"the film isn't where it was ({rejected.message})") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PictureRejected("unreadable", "the file has changed since it was scored")
    return data
