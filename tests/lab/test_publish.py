"""Writing a bundle: all of it or what was there before, whatever the disk does."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

import tiny
from edgecxr.bundle import MANIFEST, load, manifest_digest
from edgecxr.errors import GateError, StorageError, UsageError
from edgecxr.lab.publish import publish
from full_disk import files_unlimited_afterwards, limit_files


def tiny_contents(folder: Path) -> dict[str, bytes]:
    written = tiny.write_bundle(folder / "source.edgecxr")
    return {path.relative_to(written).as_posix(): path.read_bytes() for path in written.rglob("*") if path.is_file()}


def test_a_disk_that_fills_up_leaves_the_bundle_that_was_there(tmp_path: Path) -> None:
    contents = tiny_contents(tmp_path)
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "a.edgecxr"
    before = publish(output, contents, overwrite=False)
    changed = {**contents, "golden/inputs.npy": bytes(100_000)}
    with files_unlimited_afterwards():
        limit_files(50_000)
        with pytest.raises(StorageError, match=r"the bundle can't be written \(no room left\): .*a.edgecxr"):
            publish(output, changed, overwrite=True)
    assert load(output).digest == before.digest
    assert [path.name for path in output.parent.iterdir()] == ["a.edgecxr"]
    assert load(output).read("golden/inputs.npy") == contents["golden/inputs.npy"]


def test_what_doesn_t_give_its_own_answers_is_never_put_in_place(tmp_path: Path) -> None:
    contents = tiny_contents(tmp_path)
    rows = contents["golden/expected.json"].replace(b'"tolerance": 0.001', b'"tolerance": 1e-12')
    manifest = json.loads(contents[MANIFEST])
    for row in manifest["files"]:
        if row["file"] == "golden/expected.json":
            row.update(sha256=sha256(rows).hexdigest(), bytes=len(rows))
    manifest["digest"] = manifest_digest(manifest)
    (tmp_path / "out").mkdir()
    changed = {**contents, "golden/expected.json": rows, MANIFEST: json.dumps(manifest).encode()}
    with pytest.raises(GateError, match="its own golden answers"):
        publish(tmp_path / "out" / "a.edgecxr", changed, overwrite=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_bundle_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    contents = tiny_contents(tmp_path)
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "a.edgecxr"
    publish(output, contents, overwrite=False)
    with pytest.raises(UsageError, match="the output exists"):
        publish(output, contents, overwrite=False)
    assert [path.name for path in output.parent.iterdir()] == ["a.edgecxr"]
