"""What `edgecxr tune` found fastest here: one small file for this hardware and bundle, in the user's cache.

It holds names and numbers only. Whatever stands in it, nothing is chosen by it that the bundle doesn't hold or that
isn't installed, and a file that can't be understood is passed over with a note.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecxr.bundle import Bundle
from edgecxr.engines import select
from edgecxr.engines.select import ROWS, Asked, Choice, installed_engines, stored
from edgecxr.errors import StorageError
from edgecxr.system import machine, storage

SCHEMA = 1
MAX_BYTES = 64 << 10
MAX_COUNT = 4096  # workers, threads, pictures of a batch

# What decides how fast, and how right, something is, beside the hardware.
PACKAGES = ("edgecxr", *select.PACKAGES, "tensorrt")


@dataclass(frozen=True)
class Configuration:
    """One way to run a bundle on this machine."""

    artifact: str  # its file
    engine: str
    device: str
    precision: str
    workers: int
    threads: int
    batch_size: int


def hardware() -> str:
    """A hash of what this machine is and which versions it runs; nothing in it names the machine or its owner."""
    found = {
        "cpu": machine.cpu_model(),
        "features": sorted(machine.cpu_flags() & set(machine.CPU_FEATURES)),
        "cpus": machine.cpus(),
        "gpus": machine.gpu_identity(),
        "packages": {name: machine.package_version(name) for name in PACKAGES},
    }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def place(bundle: Bundle) -> Path | None:
    """The file for this hardware and bundle, whether it is there or not; None where there is no cache."""
    folder = machine.cache_folder()
    return None if folder is None else folder / "tune" / f"{bundle.digest[:32]}-{hardware()[:32]}.json"


def remember(bundle: Bundle, winner: Configuration, details: Mapping[str, Any]) -> Path:
    """Keep the winner, with `details` for people; raises StorageError where it can't be kept."""
    path = place(bundle)
    if path is None:
        raise StorageError("the winner can't be remembered: there is no home folder; set XDG_CACHE_HOME")
    content = {
        "schema": SCHEMA,
        "bundle_sha256": bundle.digest,
        "hardware_sha256": hardware(),
        "configuration": asdict(winner),
        "details": dict(details),
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with storage.replacing(path) as file:
            file.write(storage.json_text(content))
    except OSError as error:
        raise StorageError(f"the winner can't be remembered ({error.strerror}): {path}") from None
    return path


def forget(bundle: Bundle) -> bool:
    """Remove what is remembered for this hardware and bundle; whether there was anything."""
    path = place(bundle)
    try:
        if path is not None:
            path.unlink()
            return True
    except FileNotFoundError:
        pass
    except OSError as error:
        raise StorageError(f"the winner can't be forgotten ({error.strerror}): {path}") from None
    return False


def remembered(bundle: Bundle) -> tuple[Configuration | None, str | None]:
    """(the winner for this hardware and bundle, None) or (None, why it is passed over); both None without one."""
    folder = machine.cache_folder()
    if folder is None:
        return None, None
    try:
        # The machine is looked at only where there is something for this bundle: a start mustn't wait for it.
        if not any(name.startswith(bundle.digest[:32]) for name in os.listdir(folder / "tune")):
            return None, None
        path = place(bundle)
        assert path is not None
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError:
        return None, None
    try:
        return _parse(bundle, data), None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, f"what edgecxr tune remembered can't be used and is passed over; tune again: {path}"


def _parse(bundle: Bundle, data: bytes) -> Configuration:
    """Raises ValueError, KeyError or TypeError for everything that isn't a possible configuration."""
    if len(data) > MAX_BYTES:
        raise ValueError("too long")
    content = json.loads(data)
    if (content["schema"], content["bundle_sha256"]) != (SCHEMA, bundle.digest):
        raise ValueError("of another version or bundle")
    if content["hardware_sha256"] != hardware():
        raise ValueError("of another machine")
    found = Configuration(**content["configuration"])
    if any(type(n) is not int or not 1 <= n <= MAX_COUNT for n in (found.workers, found.threads, found.batch_size)):
        raise ValueError("no count")
    if found.engine not in installed_engines() or found.device not in ROWS[found.engine].devices:
        raise ValueError("no device or engine")
    choice(bundle, found)
    return found


def choice(bundle: Bundle, found: Configuration) -> Choice:
    """The artifact and engine of a configuration; raises ValueError where the bundle or engine has no such thing."""
    row = ROWS[found.engine]
    for artifact in bundle.artifacts:
        fits = artifact.file == found.artifact and artifact.format == row.format
        if fits and artifact.precision == stored(found.precision) and found.precision in row.computes:
            return Choice(artifact, found.engine, found.device, found.precision)
    raise ValueError(f"no such artifact: {found.artifact}")


def suits(found: Configuration, asked: Asked) -> bool:
    """Whether nothing that was asked for by name contradicts a configuration."""
    return all(value in ("auto", getattr(found, name)) for name, value in asdict(asked).items())
