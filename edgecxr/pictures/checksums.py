"""SHA256SUMS beside pictures: a file that is listed there must be the listed one.

A flipped bit in a JPEG decodes without an error 199 times in 200, so that only a hash finds it. Looked for in the
folder of a picture and in those above it, as far as its path names them; a file that none lists is scored as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from edgecxr.errors import PictureRejected
from edgecxr.pictures import files

NAME = "SHA256SUMS"

# As sha256sum writes them: a backslash ahead where the name is escaped, "*" for its binary mode; and its --tag form.
_LINE = re.compile(rb"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_TAGGED = re.compile(rb"(\\?)SHA256 \((.+)\) = ([0-9a-fA-F]{64})")
_ESCAPES = {rb"\\": b"\\", rb"\n": b"\n", rb"\r": b"\r"}


def check(path: Path, sha256: str) -> None:
    """Raise PictureRejected where a SHA256SUMS lists `path` with another hash, or can't be understood."""
    for folder in path.parents:
        try:
            status = (folder / NAME).stat()
        except (OSError, ValueError):
            continue
        listed = _listed(folder, status.st_mtime_ns, status.st_size, status.st_ino)
        if isinstance(listed, str):
            raise PictureRejected("checksums_unusable", f"the {NAME} beside it can't be used: {listed}")
        expected = listed.get(str(path.relative_to(folder)))
        if expected is not None and expected != sha256:
            raise PictureRejected("checksum_mismatch", f"not the file that the {NAME} beside it lists")


@lru_cache(maxsize=64)
def _listed(folder: Path, modified: int, size: int, inode: int) -> Mapping[str, str] | str:
    """The hashes that a folder's SHA256SUMS lists, by name, or why it can't be used; read again once it changed."""
    try:
        return parse(files.read(folder / NAME))
    except PictureRejected as rejected:
        return {} if rejected.code == "empty" else rejected.message


def parse(data: bytes) -> dict[str, str]:
    """{name: hash in lower case} of a SHA256SUMS; raises PictureRejected where a line is anything else."""
    listed: dict[str, str] = {}
    for number, whole_line in enumerate(data.split(b"\n"), start=1):
        line = whole_line.removesuffix(b"\r")
        if not line or line.startswith(b"#"):
            continue
        if found := _LINE.fullmatch(line):
            escaped, digest, name = found.groups()
        elif found := _TAGGED.fullmatch(line):
            escaped, name, digest = found.groups()
        else:
            raise PictureRejected("checksums_unusable", f"line {number} is no hash with a name")
        if escaped:
            name = re.sub(rb"\\[\\nr]", lambda match: _ESCAPES[match[0]], name)
        key, value = os.path.normpath(os.fsdecode(name)), digest.decode().lower()
        if listed.setdefault(key, value) != value:
            raise PictureRejected("checksums_unusable", f"line {number} lists a name again with another hash")
    return listed
