"""A model on disk: a directory NAME.edgecxr with a manifest, artifacts, golden vectors, reports and a model card.

    bundle.json            this module's `Bundle`, plus provenance; carries its own digest
    model.<precision>.onnx an artifact a precision and format
    golden/                inputs.npy (uint8) and expected.json (logits and ood an artifact and engine, with tolerances)
    reports/               how it was fitted, exported and compared, as JSON
    MODEL_CARD.md          for people, written from the reports

The manifest lists every file with its SHA-256. `Bundle.read` returns bytes only after their hash was found right, and
those very bytes go to the engine: what was checked is what runs. The digest finds damage; it is no signature, and
doesn't say who made the bundle: `signature` does, where there is one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecxr.bundle import network, thresholds
from edgecxr.bundle.thresholds import Abstention
from edgecxr.errors import BundleError
from edgecxr.pictures.preprocess import Contract

SCHEMA = 1
MANIFEST = "bundle.json"
SUFFIX = ".edgecxr"
_MODELS = Path(__file__).parent.parent / "models"
# The embedded bundles, by the names that stand for their paths: a smaller and faster student, and its teacher.
NAMED = {"edge": _MODELS / f"xception-cxr-edge{SUFFIX}", "full": _MODELS / f"xception-cxr{SUFFIX}"}
DEFAULT = "edge"
EMBEDDED = NAMED[DEFAULT]
GOLDEN_INPUTS = "golden/inputs.npy"
GOLDEN_EXPECTED = "golden/expected.json"
METADATA_PREFIX = "edgecxr."  # of what an .onnx says itself, so that it can be used alone
CARD = "MODEL_CARD.md"
FORMATS = ("onnx", "tflite")
PRECISIONS = ("fp32", "fp16", "int8", "int8-symmetric")

MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 1 << 30  # an artifact of this classifier is 84 MB at most; this bounds what a forged one can ask for
MAX_LABELS = 1000
MAX_DEPTH = 16  # of objects and lists in the JSON of a bundle; this version writes 5
MAX_DIGITS = 20  # of an integer: 64 bits and a sign

LABEL = thresholds.NAME
_FILE = re.compile(r"[A-Za-z0-9_./+-]{1,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    """One network file of a bundle."""

    file: str
    format: str
    precision: str
    sha256: str
    bytes: int
    preferred: bool = False  # the one to take on a CPU where nobody asks for a precision
    details: Mapping[str, Any] = field(default_factory=dict)  # opset, parity as measured, …


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on a class's calibrated probability, with what it gave on the split on which it was fitted."""

    label: str
    target_sensitivity: float  # what was asked for
    threshold: float  # a picture is called positive where p(label) >= threshold
    sensitivity: float
    specificity: float
    split: str
    pictures: int


@dataclass(frozen=True)
class Expected:
    """What an artifact answers to the golden inputs on an engine."""

    artifact: str
    engine: str
    logits: npt.NDArray[np.float32]  # (G, K)
    tolerance: float  # largest accepted |difference| of a logit
    precision: str = ""  # that was computed; "" is the artifact's own, as in bundles of before the field was there
    ood: npt.NDArray[np.float32] | None = None  # (G, 1); None of a network without such an output
    ood_tolerance: float = 0.0  # largest accepted |difference| of it


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read and found whole. Its other files are checked as they are read."""

    path: Path
    folder: Path  # in which its files lie: `path` itself, unless that is a lone .onnx
    digest: str  # SHA-256 of the manifest, see `manifest_digest`; with it every file's hash is fixed
    name: str
    version: str
    labels: tuple[str, ...]
    preprocessing: Contract
    temperature: float
    artifacts: tuple[Artifact, ...]
    files: Mapping[str, tuple[str, int]]  # every file but the manifest: (sha256, bytes)
    manifest: Mapping[str, Any]
    operating_points: tuple[OperatingPoint, ...] = ()
    abstention: Abstention | None = None  # None: it answers every picture
    manifest_sha256: str = ""  # of the bytes of bundle.json as they lie there; of a lone .onnx: ""

    def read(self, file: str) -> bytes:
        """The bytes of a listed file, read once and hashed; raises BundleError where they aren't the listed ones."""
        if file not in self.files:
            raise BundleError(f"the bundle doesn't list a file {file!r}: {self.path}")
        sha256, size = self.files[file]
        data = _read_plain(self.folder, file, size)
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise BundleError(f"the bundle is damaged or was changed: {file} doesn't have its listed hash: {self.path}")
        kind = PurePosixPath(file).suffix.removeprefix(".")
        if kind in FORMATS:
            network.check(data, kind)
            self._check_ood(file, network.has_ood(data, kind))
        if kind == "onnx":
            said = network.metadata(data).get(f"{METADATA_PREFIX}labels")
            if said is not None and _json_value(said) != list(self.labels):
                raise BundleError(f"{file} says that its classes are {said[:200]}, and the bundle says otherwise")
        return data

    def _check_ood(self, file: str, has_ood: bool) -> None:
        """Raise BundleError where a network gives `ood` and there is no threshold for it, or the other way round."""
        if has_ood != (self.abstention is not None and self.abstention.covers(file)):
            found = "the output ood and no threshold" if has_ood else "a threshold and no output ood"
            raise BundleError(f"an artifact must have the output ood and its threshold, or neither, {file} has {found}")

    def _golden(self, file: str) -> bytes:
        if file not in self.files:
            raise BundleError(f"golden vectors are in a whole bundle, a directory NAME.edgecxr; none in: {self.path}")
        return self.read(file)

    def golden_inputs(self) -> npt.NDArray[np.uint8]:
        """The golden inputs, uint8 (G, H, W, 1)."""
        shape = (self.preprocessing.height, self.preprocessing.width, 1)
        file = io.BytesIO(self._golden(GOLDEN_INPUTS))
        try:
            # The header first: numpy would take as much memory as it promises, and unpickle objects where it may.
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("not of version 1.0")
            found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        except (ValueError, OSError, EOFError, SyntaxError, TokenError) as error:  # numpy parses it as Python
            raise BundleError(f"the golden inputs can't be read ({error}): {self.path}") from None
        if dtype != np.uint8 or fortran or found[1:] != shape or not 1 <= found[0] <= MAX_FILE_BYTES:
            raise BundleError(f"the golden inputs are {dtype} {found}, expected uint8 (N, *{shape}): {self.path}")
        samples = np.frombuffer(file.read(), dtype=np.uint8)
        if samples.size != math.prod(found):
            raise BundleError(f"the golden inputs are shorter or longer than their header says: {self.path}")
        return samples.reshape(found)

    def golden_expected(self) -> tuple[Expected, ...]:
        """The expected logits of each artifact and engine."""
        try:
            rows = _json(self._golden(GOLDEN_EXPECTED))
            expected = tuple(
                Expected(
                    str(row["artifact"]),
                    str(row["engine"]),
                    np.asarray(row["logits"], dtype=np.float32),
                    float(row["tolerance"]),
                    str(row.get("precision", "")),
                    np.asarray(row["ood"], dtype=np.float32) if "ood" in row else None,
                    float(row["ood_tolerance"]) if "ood" in row else 0.0,
                )
                for row in rows
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"the golden vectors can't be read ({error}): {self.path}") from None
        for row in expected:
            fits = row.logits.ndim == 2 and row.logits.shape[1] == len(self.labels) and np.isfinite(row.logits).all()
            fits = fits and 0 < row.tolerance < math.inf
            if row.ood is not None:
                fits = fits and row.ood.shape == (len(row.logits), 1) and bool(np.isfinite(row.ood).all())
                fits = fits and 0 < row.ood_tolerance < math.inf
            if not fits:
                raise BundleError(f"the golden vectors of {row.artifact} don't fit the bundle: {self.path}")
        return expected


def load(path: str | os.PathLike[str] | None = None) -> Bundle:
    """Open a bundle (None: the default one), or an .onnx of one by itself; raises BundleError where it is refused.

    `full` and `edge` are the embedded ones; a folder of such a name is reached by its absolute path.
    A lone .onnx says its labels, preprocessing and temperature in its metadata. Its digest is that of the file, and it
    has no golden vectors.
    """
    name = os.fspath(path) if path is not None else None
    folder = EMBEDDED if name is None else NAMED.get(name, Path(name))
    if name in NAMED and not folder.is_dir():
        raise BundleError(f"the model {name!r} isn't in this installation, which has {' and '.join(present())}")
    if folder.suffix == ".onnx" and folder.is_file():
        return _lone(folder)
    if not folder.is_dir():
        what = "is a file, expected a directory NAME.edgecxr or an .onnx" if folder.exists() else "doesn't exist"
        raise BundleError(f"the bundle {what}: {folder}")
    return parse(_read_plain(folder, MANIFEST, MAX_MANIFEST_BYTES), folder)


def present() -> tuple[str, ...]:
    """Names of the embedded bundles that are in this installation."""
    return tuple(name for name, folder in NAMED.items() if folder.is_dir())


def parse(data: bytes, folder: Path) -> Bundle:
    """The bundle in `folder` whose manifest holds `data`; raises BundleError where it is refused."""
    try:
        manifest = _json(data)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} isn't valid JSON ({type(error).__name__}): {folder}") from None
    except BundleError as error:
        raise BundleError(f"{MANIFEST} is refused ({error}): {folder}") from None
    if not isinstance(manifest, dict):
        raise BundleError(f"{MANIFEST} is not an object: {folder}")
    try:
        return replace(_parse(folder, manifest), manifest_sha256=hashlib.sha256(data).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{MANIFEST} lacks or garbles a field ({error}): {folder}") from None


def _lone(path: Path) -> Bundle:
    """The bundle that an .onnx is by itself."""
    if not _plain(path.name):
        raise BundleError(f"a lone .onnx must have a name of A-Z, a-z, 0-9 and _ . + - only: {path}")
    data = _read_plain(path.parent, path.name, MAX_FILE_BYTES)
    network.check(data, "onnx")
    said = network.metadata(data)
    wanted = ("name", "version", "labels", "preprocessing", "temperature")
    missing = [key for key in wanted if METADATA_PREFIX + key not in said]
    if missing:
        raise BundleError(
            f"the .onnx doesn't say its {', '.join(missing)} in its metadata, as an exported one does: {path}"
        )
    row = {
        "file": path.name,
        "format": "onnx",
        "precision": network.precision(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "preferred": True,
    }
    try:
        manifest = {
            "schema": SCHEMA,
            **{key: _json(said[METADATA_PREFIX + key].encode()) for key in wanted},
            "abstention": _said_thresholds(said, row),
            "artifacts": [row],
            "files": [],
        }
        return _checked(path, path.parent, manifest, str(row["sha256"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"the .onnx garbles its metadata ({error}): {path}") from None


def _said_thresholds(said: Mapping[str, str], artifact: Mapping[str, Any]) -> dict[str, Any] | None:
    text = said.get(f"{METADATA_PREFIX}abstention")
    return None if text is None else thresholds.of_one(_json(text.encode()), artifact["file"], artifact["precision"])


def _json_value(text: str) -> Any:
    try:
        return _json(text.encode())
    except (ValueError, RecursionError, BundleError):
        return None


def _json(data: bytes) -> Any:
    """JSON as this project writes it; raises ValueError or RecursionError for what is none, BundleError for more."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise BundleError("a field that stands there twice means one thing to us and another to others")
        return dict(pairs)

    def held(text: str) -> int:  # Python's integers have no end, and those past 308 digits no float
        if len(text) > MAX_DIGITS:
            raise BundleError(f"an integer of {len(text)} digits, more than {MAX_DIGITS}")
        return int(text)

    value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_int=held)
    level, depth = [value], 0
    while level := [item for node in level for item in _items(node)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise BundleError(f"more than {MAX_DEPTH} levels of objects and lists")
    return value


def _items(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest without its own `digest`, as JSON with sorted keys, no spaces and ASCII only."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _parse(folder: Path, manifest: dict[str, Any]) -> Bundle:
    schema = manifest.get("schema")
    if type(schema) is not int or schema < 1:
        raise BundleError(f"{MANIFEST} has no schema version: {folder}")
    if schema > SCHEMA:
        raise BundleError(f"the bundle's schema is {schema}, this version of edgecxr reads up to {SCHEMA}: {folder}")
    digest = manifest_digest(manifest)
    if manifest.get("digest") != digest:
        raise BundleError(f"the bundle is damaged or was changed: {MANIFEST} doesn't have its own digest: {folder}")
    return _checked(folder, folder, manifest, digest)


def _checked(path: Path, folder: Path, manifest: dict[str, Any], digest: str) -> Bundle:
    """The bundle at `path` of which `manifest` tells, whose files lie in `folder`."""
    if not isinstance(manifest["labels"], list):
        raise BundleError(f"the labels are no list: {folder}")
    labels = tuple(manifest["labels"])
    for key in ("name", "version"):
        if not isinstance(manifest[key], str) or not LABEL.fullmatch(manifest[key]):
            raise BundleError(f"the {key} isn't a plain one of at most 64 characters: {folder}")
    if not 2 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
        raise BundleError(f"expected 2 to {MAX_LABELS} labels, all different, got {len(labels)}: {folder}")
    if not all(isinstance(label, str) and LABEL.fullmatch(label) for label in labels):
        raise BundleError(f"a label isn't a plain name of at most 64 characters: {folder}")
    temperature = float(manifest["temperature"])
    if not (math.isfinite(temperature) and temperature > 0):
        raise BundleError(f"the temperature must be a positive number, got {temperature}: {folder}")
    artifacts = tuple(_artifact(row) for row in manifest["artifacts"])
    if not artifacts:
        raise BundleError(f"the bundle holds no artifact: {folder}")
    files: dict[str, tuple[str, int]] = {}
    for row in [*manifest["artifacts"], *manifest["files"]]:
        file, sha256, size = row["file"], row["sha256"], row["bytes"]
        if not _plain(file) or file == MANIFEST or file in files:
            raise BundleError(f"{MANIFEST} lists a file name that isn't a plain relative one of its own: {folder}")
        if not _SHA256.fullmatch(sha256) or type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
            raise BundleError(f"{MANIFEST} lists {file} with no usable hash or size: {folder}")
        files[file] = (sha256, size)
    return Bundle(
        path=path,
        folder=folder,
        digest=digest,
        name=str(manifest["name"]),
        version=str(manifest["version"]),
        labels=labels,
        preprocessing=Contract.from_json(manifest["preprocessing"]),
        temperature=temperature,
        artifacts=artifacts,
        files=files,
        manifest=manifest,
        operating_points=tuple(_operating_point(row, labels) for row in manifest.get("operating_points", [])),
        abstention=thresholds.parse(manifest.get("abstention"), [artifact.file for artifact in artifacts]),
    )


def _artifact(row: Mapping[str, Any]) -> Artifact:
    named = ("file", "format", "precision", "sha256", "bytes", "preferred")
    if row["format"] not in FORMATS or row["precision"] not in PRECISIONS:
        raise BundleError(f"this version doesn't know an artifact of {row['format']} {row['precision']}")
    if PurePosixPath(row["file"]).suffix != f".{row['format']}":
        raise BundleError(f"an artifact's file must end in .{row['format']}")
    details = {key: value for key, value in row.items() if key not in named}
    return Artifact(**{key: row[key] for key in named}, details=details)


def _operating_point(row: Mapping[str, Any], labels: tuple[str, ...]) -> OperatingPoint:
    point = OperatingPoint(**{name.name: row[name.name] for name in fields(OperatingPoint)})
    shares = (point.target_sensitivity, point.threshold, point.sensitivity, point.specificity)
    # Written so that a NaN fails.
    if not all(type(share) in (int, float) and 0 <= share <= 1 for share in shares):
        raise BundleError(f"an operating point's threshold and figures must lie in 0 to 1, got {shares}")
    if point.label not in labels or not isinstance(point.split, str) or not LABEL.fullmatch(point.split):
        raise BundleError("an operating point must name one of the labels and a split")
    if type(point.pictures) is not int or point.pictures < 1:
        raise BundleError(f"an operating point must say on how many pictures it was fitted, got {point.pictures!r}")
    return point


def _plain(file: object) -> bool:
    if not isinstance(file, str) or not _FILE.fullmatch(file):
        return False
    parts = PurePosixPath(file).parts
    return bool(parts) and not file.startswith("/") and ".." not in parts and "/".join(parts) == file


def _read_plain(folder: Path, file: str, limit: int) -> bytes:
    """Bytes of a regular file inside `folder`, at most `limit` (one more says it is longer); no symlink on the way."""
    path = folder
    for part in PurePosixPath(file).parts:
        path = path / part
        if path.is_symlink():
            raise BundleError(f"{file} of the bundle is a symlink: {folder}")
    # O_NOFOLLOW and O_NONBLOCK: for a symlink or a FIFO that took the file's place since it was looked at.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise BundleError(f"{file} of the bundle is not a regular file: {folder}")
        with os.fdopen(os.open(path, flags), "rb") as opened:
            length = os.fstat(opened.fileno()).st_size
            data = opened.read(min(length, limit) + 1)
    except OSError as error:
        raise BundleError(f"{file} of the bundle can't be read ({error.strerror}): {folder}") from None
    if len(data) > limit:
        raise BundleError(f"{file} of the bundle is longer than it should be: {folder}")
    return data
