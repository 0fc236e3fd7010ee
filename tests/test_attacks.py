"""Each attempt on a bundle is refused before an engine sees anything of it, and no byte that changed is ever used."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attacks import forge, run
from common import ROOT
from edgecxr.bundle import Bundle, load
from edgecxr.bundle import reader as bundle_module
from edgecxr.device.verify import verify
from edgecxr.engines import select
from edgecxr.engines.select import Asked
from edgecxr.errors import BundleError
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session

KEPT = ROOT / "tests" / "bundles" / "1-with-operating-points.edgecxr"
ON_OPENVINO = "external_data_on_openvino"

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino isn't installed")


def names() -> list[object]:
    return [pytest.param(name, marks=needs_openvino) if name == ON_OPENVINO else name for name in run.NAMES]


def test_there_are_attempts_for_all_that_is_promised() -> None:
    assert {"external_data", "path_outside", "symlink", "json_oversize", "json_deep", "newer_schema"} <= set(run.NAMES)
    for name in run.NAMES:
        assert run.load(name).__doc__, name


@pytest.mark.parametrize("name", names())
def test_an_attempt_is_refused_before_an_engine_sees_it(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(*arguments: object) -> None:
        raise AssertionError("an engine got the artifact")

    monkeypatch.setattr(select, "make_engine", seen)
    monkeypatch.chdir(tmp_path)
    module = run.load(name)
    bundle = module.make(tmp_path / "attack.edgecxr")
    engine = "openvino" if name == ON_OPENVINO else "onnxruntime"
    with pytest.raises(BundleError) as caught:
        if getattr(module, "VERB", "infer") == "verify":
            verify(load(bundle), Asked(engine=engine, device="cpu"))
        else:
            open_session(load(bundle), Asked(engine=engine, device="cpu"))
    assert module.REFUSED in str(caught.value)
    assert not (tmp_path / "owned").exists()


@needs_openvino
def test_openvino_would_have_read_the_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    from attacks import external_data

    monkeypatch.chdir(tmp_path)
    external_data.make(tmp_path / "attack.edgecxr")
    compiled = openvino.Core().compile_model(openvino.Core().read_model(external_data.model()), "CPU")
    assert np.array_equal(compiled(np.zeros((1, 64, 64, 1), np.uint8))["logits"], [[9, 9, 9]])


def test_each_file_is_read_once_and_those_very_bytes_are_hashed_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = forge.bundle(tmp_path / "t.edgecxr")
    original = (folder / forge.MODEL).read_bytes()
    opened: list[str] = []
    run_bytes: list[bytes] = []
    real_open, real_make = os.open, select.make_engine

    def spy_open(path: Path, flags: int) -> int:
        opened.append(Path(path).name)
        descriptor = real_open(path, flags)
        if Path(path).name == forge.MODEL:  # swapped right after it was opened, as by somebody who waits for that
            (folder / "other").write_bytes(b"other")
            (folder / "other").replace(path)
        return descriptor

    def spy_make(engine: str, model: bytes, *rest: Any) -> Any:
        run_bytes.append(model)
        return real_make(engine, model, *rest)

    monkeypatch.setattr(bundle_module.os, "open", spy_open)
    monkeypatch.setattr(select, "make_engine", spy_make)
    open_session(load(folder), Asked(engine="onnxruntime", device="cpu"))
    assert opened == ["bundle.json", forge.MODEL]
    assert run_bytes == [original]


def test_a_bundle_that_is_replaced_while_it_runs_changes_no_answer(tmp_path: Path) -> None:
    folder = forge.bundle(tmp_path / "t.edgecxr")
    session = open_session(load(folder), Asked(engine="onnxruntime", device="cpu"))
    picture = np.tile(np.arange(96, dtype=np.uint8) * 2, (80, 1))
    before = pipeline.score(session, [picture])[0]
    shutil.rmtree(folder)
    after = pipeline.score(session, [picture])[0]
    assert (after.logits, after.provenance) == (before.logits, before.provenance)
    changed = load(forge.bundle(folder, lambda manifest: manifest.update(version="2")))
    assert changed.digest != before.provenance.bundle_sha256  # which is in every record


@pytest.mark.parametrize("name", ["external_data", "pickle_in_golden_inputs"])
def test_the_command_line_says_one_sentence(tmp_path: Path, name: str) -> None:
    _refused_in_one_sentence(name, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", names())
def test_the_command_line_says_one_sentence_of_each(tmp_path: Path, name: str) -> None:
    _refused_in_one_sentence(name, tmp_path)


def _refused_in_one_sentence(name: str, scratch: Path) -> None:
    done = run.attempt(name, scratch)
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("edgecxr: ")
    assert run.load(name).REFUSED in line
    assert not (scratch / "owned").exists()


def test_no_changed_byte_is_used(tmp_path: Path) -> None:
    _change_bytes(tmp_path, 400)


@pytest.mark.long
def test_no_changed_byte_of_10_000_is_used(tmp_path: Path) -> None:
    _change_bytes(tmp_path, 10_000)


def _change_bytes(scratch: Path, changes: int) -> None:
    """Random changes of one byte, over every file in turn: refused, or another spelling of the same manifest."""
    folder = scratch / "changed.edgecxr"
    shutil.copytree(KEPT, folder)
    whole = load(folder)
    files = ["bundle.json", *whole.files]
    originals = {file: (folder / file).read_bytes() for file in files}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(files)
    rng = np.random.default_rng(4)
    refused = dict.fromkeys(files, 0)
    for number in range(changes):
        file = files[number % len(files)]
        changed = bytearray(originals[file])
        changed[rng.integers(len(changed))] ^= int(rng.integers(1, 256))
        _write(folder / file, bytes(changed))
        try:
            bundle = load(folder)
            used = {name: bundle.read(name) for name in bundle.files} if file == "bundle.json" else bundle.read(file)
        except BundleError:
            refused[file] += 1
        else:
            assert file == "bundle.json", f"{file}: a changed byte was returned: {used!r:.80}"
            _same(bundle, whole)
        _write(folder / file, originals[file])
    each = changes // len(files)
    assert all(refused[file] >= each for file in whole.files)
    assert refused["bundle.json"] > 0.9 * each  # the others turned white space into other white space


def _write(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:  # in place, as a stick that fails does it
        file.write(data)
        file.flush()
        os.truncate(file.fileno(), len(data))


def _same(bundle: Bundle, whole: Bundle) -> None:
    assert bundle == whole
    assert bundle.digest == whole.digest
    assert bundle.manifest == whole.manifest
