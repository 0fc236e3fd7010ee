"""Signatures: one that model-signing wrote is right, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import tiny
from common import ROOT
from edgecxr.bundle import load, manifest_digest, signature
from edgecxr.errors import BundleError, UnavailableError, UsageError

KEPT = ROOT / "tests" / "bundles"
SIGNED, SIG, KEY = KEPT / "1-with-abstention.edgecxr", KEPT / "signed/model.sig", KEPT / "signed/key.pub"


def pem(key: Any) -> bytes:
    found: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return found


def signed(folder: Path, key: ec.EllipticCurvePrivateKey, change: Callable[[Any], object] = lambda _: None) -> bytes:
    """What model_signing writes for a folder, written here anew; `change` alters the statement before it is signed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashed = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    rows = [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in hashed.items()]
    kind = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    statement = {"predicateType": signature.PREDICATE, "predicate": {"serialization": kind, "resources": rows}}
    change(statement)
    payload = json.dumps(statement).encode()
    # The DSSE specification's PAE, its lengths counted by hand: the type has 28 characters.
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    envelope = {
        "payloadType": "application/vnd.in-toto+json",
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(key.sign(encoded, ec.ECDSA(hashes.SHA256()))).decode()}],
    }
    material = {"publicKey": {"hint": hashlib.sha256(pem(key)).hexdigest()}}
    return json.dumps(
        {"mediaType": signature.MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
    ).encode()


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def ours(tmp_path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    """A signed bundle, with its key beside it."""
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    (tmp_path / "model.sig").write_bytes(signed(folder, key))
    (tmp_path / "key.pub").write_bytes(pem(key))
    return folder


def test_what_model_signing_signed_is_right() -> None:
    found = signature.check(load(SIGNED), SIG, KEY)
    assert (found.curve, found.files) == ("secp384r1", 6)
    assert found.key_sha256 == hashlib.sha256(KEY.read_bytes()).hexdigest()


def test_verify_says_who_signed_and_takes_a_signature_in_the_bundle_too(
    ours: Path, edgecxr: Callable[..., subprocess.CompletedProcess[str]], key: ec.EllipticCurvePrivateKey
) -> None:
    call = ("verify", ours, "--engine", "onnxruntime", "--signed-by", ours.parent / "key.pub")
    done = edgecxr(*call)
    assert done.returncode == 0 and "signed by" in done.stdout
    (ours.parent / "model.sig").rename(ours / "model.sig")
    done = edgecxr(*call, "--json")
    assert json.loads(done.stdout)["signed"] == {
        "key_sha256": hashlib.sha256(pem(key)).hexdigest(), "curve": "secp256r1", "files": 6,
    }  # fmt: skip
    (ours / "model.sig").unlink()
    done = edgecxr(*call)
    assert (done.returncode, done.stdout) == (3, "") and "isn't signed" in done.stderr
    assert edgecxr("verify", ours, "--signature", ours / "model.sig").returncode == 2


def relist(folder: Path, file: str, data: bytes) -> None:
    """Change a file as somebody does who can compute hashes: the bundle is whole, and another."""
    manifest = json.loads((folder / "bundle.json").read_text())
    for row in [*manifest["files"], *manifest["artifacts"]]:
        if row["file"] == file:
            row.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    manifest["digest"] = manifest_digest(manifest)
    (folder / file).write_bytes(data)
    (folder / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("file", ["MODEL_CARD.md", "model.fp32.onnx", "bundle.json"])
@pytest.mark.parametrize("listed", [True, False])
def test_a_file_that_changed_since_is_exit_3(
    ours: Path, edgecxr: Callable[..., subprocess.CompletedProcess[str]], file: str, listed: bool
) -> None:
    data = (ours / file).read_bytes()
    if file == "bundle.json":  # the same content in other bytes, or others
        (ours / file).write_bytes(data + b"\n" if listed else data.replace(b"covid", b"colds"))
    elif listed:
        relist(ours, file, data + b" ")
    else:
        (ours / file).write_bytes(data[:-1] + b" ")
    done = edgecxr("verify", ours, "--engine", "onnxruntime", "--signed-by", ours.parent / "key.pub")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1), done.stderr
    assert ("isn't what was signed" if listed else "damaged or was changed") in done.stderr


def test_another_key_signed_it(ours: Path, tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "other.pub").write_bytes(pem(other))
    with pytest.raises(BundleError, match="another key"):
        signature.check(load(ours), tmp_path / "model.sig", tmp_path / "other.pub")
    found = json.loads((tmp_path / "model.sig").read_text())
    found["verificationMaterial"]["publicKey"] = {"hint": hashlib.sha256(pem(other)).hexdigest()}  # and says otherwise
    (tmp_path / "lie.sig").write_text(json.dumps(found))
    with pytest.raises(BundleError, match="damaged, was changed, or isn't of"):
        signature.check(load(ours), tmp_path / "lie.sig", tmp_path / "other.pub")


def test_what_was_signed_is_what_counts(ours: Path, tmp_path: Path) -> None:
    found = json.loads((tmp_path / "model.sig").read_text())
    relist(ours, "MODEL_CARD.md", b"Better.")
    payload = json.loads(base64.b64decode(found["dsseEnvelope"]["payload"]))
    for row in payload["predicate"]["resources"]:
        row["digest"] = hashlib.sha256((ours / row["name"]).read_bytes()).hexdigest()
    found["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    (tmp_path / "model.sig").write_text(json.dumps(found))
    with pytest.raises(BundleError, match="damaged, was changed, or isn't of"):
        signature.check(load(ours), tmp_path / "model.sig", tmp_path / "key.pub")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["predicate"]["resources"].pop(1), "doesn't cover bundle.json"),  # ignored as it was signed
        (lambda s: s["predicate"]["resources"].pop(), "doesn't cover model.int8.onnx"),
        (lambda s: s["predicate"]["resources"][0].update(algorithm="blake2"), "doesn't cover MODEL_CARD.md"),
        (lambda s: s["predicate"]["serialization"].update(method="shards"), "over files"),
        (lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"), "over files"),
        (lambda s: s.pop("predicate"), "over files"),
    ],
)
def test_a_signature_of_something_else_is_no_signature_of_the_bundle(
    ours: Path, key: ec.EllipticCurvePrivateKey, tmp_path: Path, change: Any, said: str
) -> None:
    (tmp_path / "model.sig").write_bytes(signed(ours, key, change))
    with pytest.raises(BundleError, match=said):
        signature.check(load(ours), tmp_path / "model.sig", tmp_path / "key.pub")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "[" * 90_000, '{"dsseEnvelope": 1, "verificationMaterial": 2}']
)
def test_what_is_no_signature_is_refused(ours: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "model.sig").write_text(text)
    with pytest.raises(BundleError, match="expected a signature of model_signing"):
        signature.check(load(ours), tmp_path / "model.sig", tmp_path / "key.pub")


def test_what_is_no_public_key_is_refused(ours: Path, key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    others = {
        "private.pem": (private, "public key in PEM"),
        "text.pub": (b"ssh-rsa AAAA", "public key in PEM"),
        "other.pub": (pem(ed25519.Ed25519PrivateKey.generate()), "elliptic-curve key"),
        "k1.pub": (pem(ec.generate_private_key(ec.SECP256K1())), "elliptic-curve key"),
    }
    for name, (data, said) in others.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError, match=said):
            signature.check(load(ours), tmp_path / "model.sig", tmp_path / name)
    for pair in ((tmp_path, tmp_path / "key.pub"), (tmp_path / "model.sig", tmp_path / "absent.pub")):
        with pytest.raises(UsageError, match="as a file"):
            signature.check(load(ours), *pair)


def test_without_cryptography_it_is_said(ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(UnavailableError, match=r"edgecxr\[signed\]"):
        signature.check(load(ours), tmp_path / "model.sig", tmp_path / "key.pub")


@pytest.mark.peers
@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_model_signings_own_command_and_ours_agree(tmp_path: Path, curve: Any) -> None:
    program = shutil.which("model_signing") or shutil.which("model_signing", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("no model_signing here; CONTRIBUTING.md says what brings it")

    def theirs(*arguments: object) -> int:
        return subprocess.run(
            [program, *map(str, arguments)], cwd=tmp_path, capture_output=True, check=False
        ).returncode

    private = ec.generate_private_key(curve)
    (tmp_path / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "key.pub").write_bytes(pem(private))
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    assert theirs("sign", "key", folder, "--private_key", "key.pem") == 0  # writes model.sig where it is run
    checks = ("verify", "key", folder, "--signature", "model.sig", "--public_key", "key.pub")
    assert theirs(*checks) == 0
    assert signature.check(load(folder), signature.find(load(folder)), tmp_path / "key.pub").files == 6
    relist(folder, "MODEL_CARD.md", b"Better.")
    assert theirs(*checks) == 1
    with pytest.raises(BundleError, match="isn't what was signed"):
        signature.check(load(folder), tmp_path / "model.sig", tmp_path / "key.pub")
