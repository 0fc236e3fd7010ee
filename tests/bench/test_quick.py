"""The quick measurement: only what can be scored is timed, and what doesn't fit a device's memory is said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from edgecxr.bench import quick
from edgecxr.bench.pictures import usable
from edgecxr.bundle import load
from edgecxr.engines import Outputs
from edgecxr.engines.ort import OnnxRuntimeEngine
from edgecxr.engines.select import Asked
from edgecxr.errors import DeviceMemoryError, UsageError
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import open_session


def test_a_picture_that_its_checksum_rejects_is_left_out(tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    good, bad = picture("a.png", seed=1), picture("b.png", seed=2)
    listed = hashlib.sha256(good.read_bytes()).hexdigest()
    (good.parent / "SHA256SUMS").write_text(f"{listed}  a.png\n{listed}  b.png\n")
    found = usable(load(tiny_bundle), [good, bad])
    assert (found.files, found.left_out) == ((good,), 1)


def test_a_picture_that_is_rejected_meanwhile_ends_it(tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    session = open_session(load(tiny_bundle), Asked(engine="onnxruntime"))
    file = picture("a.png", seed=1)
    calls = quick._picture_call(session, [file]), quick._folder_call(session, [file], 3)
    for call in calls:
        call()
    file.write_bytes(b"no picture")
    for call in calls:
        with pytest.raises(UsageError, match="can't be scored any more"):
            call()


def test_a_picture_that_abstains_is_measured_as_any_other(tmp_path: Path, picture: Callable[..., Path]) -> None:
    session = open_session(
        load(tiny.write_bundle(tmp_path / "t.edgecxr", abstain_at=-1e3)), Asked(engine="onnxruntime")
    )
    file = picture("a.png", seed=1)
    assert pipeline.score(session, [file])[0].status == "abstained"
    quick._picture_call(session, [file])()
    quick._folder_call(session, [file], 3)()


def test_batches_that_do_not_fit_are_not_run(
    tiny_bundle: Path, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OnnxRuntimeEngine.run

    def run(self: OnnxRuntimeEngine, images: np.ndarray) -> Outputs:
        if len(images) > 4:
            raise DeviceMemoryError("the memory of the GPU doesn't suffice for 8 pictures")
        return real(self, images)

    monkeypatch.setattr(OnnxRuntimeEngine, "run", run)
    monkeypatch.setattr(quick, "cold_starts", lambda *_: [])
    report = quick.bench(
        load(tiny_bundle),
        [picture("a.png", seed=1)],
        Asked(engine="onnxruntime", precision="int8"),
        batch_sizes=[1, 8],
        seconds=1,
    )
    assert {row["batch_size"] for row in report["results"] if row["what"] == "model"} == {1}
    assert {row["what"] for row in report["results"]} == {"model", "picture", "folder"}
    (reason,) = report["not_run"]
    assert "batches of 8: the memory of the GPU doesn't suffice" in reason
