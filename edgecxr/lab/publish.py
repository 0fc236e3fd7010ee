"""A bundle's files on disk, all of them or none: written beside, synced, checked as a device would, then renamed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from edgecxr.bundle import Bundle
from edgecxr.bundle import reader as bundles
from edgecxr.device.verify import verify
from edgecxr.engines.select import Asked
from edgecxr.errors import GateError, UsageError
from edgecxr.lab.train import storage
from edgecxr.system.storage import replacing_folder, sync_folder


def check_place(output: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a place where no bundle can be written, before there is one."""
    if output.suffix != bundles.SUFFIX:
        raise UsageError(f"the output must be named NAME{bundles.SUFFIX}, got {output}")
    if not output.parent.is_dir():
        raise UsageError(f"the output's folder doesn't exist: {output.parent}")
    if os.path.lexists(output):
        if not overwrite:
            raise UsageError(f"the output exists; give --overwrite to replace it: {output}")
        if output.is_symlink() or not (output / bundles.MANIFEST).is_file():
            raise UsageError(f"--overwrite replaces a bundle, and this is none: {output}")


def publish(output: Path, contents: Mapping[str, bytes], overwrite: bool) -> Bundle:
    """Write the bundle beside its place, check it as a device would, and move it there in one step.

    Raises StorageError where there is no room, UsageError where the place can't be used, GateError where the bundle
    doesn't give its own answers; what was at `output` stands then as before.
    """
    try:
        with replacing_folder(output, overwrite=overwrite) as partial:
            for file, content in contents.items():
                path = partial / file
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as opened:
                    opened.write(content)
                    opened.flush()
                    os.fsync(opened.fileno())
            for folder in (partial, *(entry for entry in partial.iterdir() if entry.is_dir())):
                sync_folder(folder)
            check = verify(bundles.load(partial), Asked(device="cpu"))
            if not check.passed:
                raise GateError("the finished bundle doesn't give its own golden answers on this machine")
            if os.path.lexists(output) and not overwrite:
                raise UsageError(f"the output exists; give --overwrite to replace it: {output}")
    except OSError as error:
        raise storage.failed("the bundle", output, error) from None
    return bundles.load(output)
