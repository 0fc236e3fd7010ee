"""Where a test may mount a small file system of its own."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def mounting() -> list[str]:
    """The beginning of a command that may mount; skips where that can't be had."""
    for way in (["unshare", "-m"], ["unshare", "-rm"]):
        if shutil.which("unshare") and subprocess.run([*way, "true"], capture_output=True, check=False).returncode == 0:
            tried = subprocess.run([*way, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False)
            if tried.returncode == 0:
                return way
    pytest.skip("no file system can be mounted here")
