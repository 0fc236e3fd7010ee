"""Who made a bundle: the signature that `model_signing sign key` wrote, checked offline (extra: signed).

The format is model-signing's (https://github.com/sigstore/model-transparency) from 1.0 on: a Sigstore bundle, JSON,
around a DSSE envelope (https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md) whose payload is an in-toto
statement that lists every file of the model with its SHA-256. That package needs thirty others, clients of a network
among them, so a device has the check of an elliptic-curve key by itself: one signature, and hashes that `Bundle` has.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecxr.bundle.reader import MANIFEST, Bundle
from edgecxr.errors import BundleError, UnavailableError, UsageError

NAME = "model.sig"  # what model_signing calls it where nobody names another
MAX_BYTES = 4 << 20  # of a signature or key: one of a bundle of twenty files has 4 kB
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE = "https://model_signing/signature/v1.0"
CURVES = ("secp256r1", "secp384r1", "secp521r1")  # that model_signing signs with, each with the hash of its length


@dataclass(frozen=True)
class Signed:
    """A signature that was found right."""

    key_sha256: str  # of the public key's PEM, which the signature names too
    curve: str
    files: int  # that were signed and are the bundle's


def find(bundle: Bundle) -> Path:
    """The signature in the bundle's folder, or beside it; raises BundleError where there is none."""
    for folder in (bundle.folder, bundle.folder.parent):
        if (folder / NAME).is_file():
            return folder / NAME
    raise BundleError(
        f"the bundle isn't signed, expected {NAME} in it or beside it, or --signature FILE: {bundle.path}"
    )


def check(bundle: Bundle, signature: Path, key: Path) -> Signed:
    """Whether `signature` is of `key` (a public one, PEM) and of every file that `bundle` lists, as it lists it.

    Files are read by `Bundle.read`, which hashes them: what passes here and there is what was signed. What the bundle
    doesn't list isn't looked at, since nothing reads it. Raises BundleError where it isn't, UsageError where `key`
    or `signature` is no such file, UnavailableError without the package cryptography.
    """
    public = _public_key(key)
    envelope, hint = _envelope(_content(signature, "signature"), signature)
    named = hashlib.sha256(_pem(public)).hexdigest()
    if hint not in (None, named):
        raise BundleError(f"the bundle was signed with another key than {key}: {signature}")
    payload = _payload(envelope, public, key, signature)
    listed = _signed_files(payload, signature)
    own = {MANIFEST: bundle.manifest_sha256, **{file: sha256 for file, (sha256, _) in bundle.files.items()}}
    for file, sha256 in own.items():
        if file not in listed:
            raise BundleError(f"the signature doesn't cover {file} of the bundle: {signature}")
        if listed[file] != sha256:
            raise BundleError(f"the bundle isn't what was signed, {file} has another hash: {bundle.path}")
    return Signed(named, public.curve.name, len(own))


def _content(path: Path, what: str) -> bytes:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise UsageError(f"expected the {what} as a file, got: {path}")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the {what} can't be read ({error.strerror}): {path}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"no {what} is longer than {MAX_BYTES >> 20} MiB: {path}")
    return data


def _public_key(path: Path) -> Any:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise UnavailableError(
            f"--signed-by needs the extra 'signed'; run: pip install 'edgecxr[signed]' ({error})"
        ) from None
    try:
        key = load_pem_public_key(_content(path, "public key"))
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"expected a public key in PEM (BEGIN PUBLIC KEY), got: {path}") from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise UsageError(f"expected an elliptic-curve key of {', '.join(CURVES)}, got another: {path}")
    return key


def _pem(public: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def _envelope(data: bytes, path: Path) -> tuple[dict[str, Any], str | None]:
    """The DSSE envelope of a Sigstore bundle, and the hash of the key that it names."""
    try:
        found = json.loads(data)
        envelope, material = found["dsseEnvelope"], found["verificationMaterial"]
        if found["mediaType"] != MEDIA_TYPE or envelope["payloadType"] != PAYLOAD_TYPE or "publicKey" not in material:
            raise ValueError(found["mediaType"])
        return envelope, material["publicKey"].get("hint")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BundleError(f"expected a signature of model_signing sign key, this is none: {path}") from None


def _payload(envelope: dict[str, Any], public: Any, key: Path, path: Path) -> bytes:
    """What was signed; raises BundleError where it wasn't, with this key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except (ValueError, KeyError, TypeError, IndexError):
        raise BundleError(f"expected a signature of model_signing sign key, this is none: {path}") from None
    encoded = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    of_length = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    try:
        public.verify(signature, encoded, ECDSA(of_length[public.curve.key_size]))
    except InvalidSignature:
        raise BundleError(f"the signature is damaged, was changed, or isn't of {key}: {path}") from None
    return payload


def _signed_files(payload: bytes, path: Path) -> dict[str, str]:
    """{file: SHA-256} of a statement that was found signed."""
    try:
        statement = json.loads(payload)
        predicate = statement["predicate"]
        kind = (statement["predicateType"], predicate["serialization"]["method"])
        if kind != (PREDICATE, "files"):
            raise ValueError(str(kind))
        return {row["name"]: row["digest"] for row in predicate["resources"] if row["algorithm"] == "sha256"}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(
            f"expected a signature over files and their SHA-256, as model_signing writes it from 1.0 on: {path}"
        ) from None
