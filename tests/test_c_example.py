"""examples/c: compiled as its README says, it prints the bundle's golden logits, its ood, and what isn't answered."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from common import ROOT
from edgecxr.bundle import Bundle, load
from edgecxr.device.golden import WIDER_TOLERANCES
from edgecxr.engines.ov import OpenVinoEngine

SOURCE = ROOT / "examples" / "c"
SMALL = ROOT / "tests/bundles/1-first.edgecxr"  # tests/tiny.py's network, in fp32
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The program, with the address and undefined behaviour sanitizers where the compiler brings them."""
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("no make or C compiler (cc) here")
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO isn't installed, whose wheel brings the headers")
    folder = tmp_path_factory.mktemp("c")
    for name in ("classify.c", "Makefile"):
        shutil.copy(SOURCE / name, folder)
    sanitized = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    flags = sanitized if _sanitizers(folder) else "-O2"
    done = subprocess.run(
        ["make", "-s", "CC=cc", f"PYTHON={sys.executable}", f"CFLAGS={flags}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # TBB loads a helper in a way that the address sanitizer can't follow, unless it is told.
    # Its observer of threads is sometimes still held at the end: 40 bytes of TBB's own, now and then.
    (folder / "leaks").write_text("leak:tbb::detail::r1::observe\n")
    environment = {
        **os.environ,
        "TBB_ENABLE_SANITIZERS": "1",
        "LSAN_OPTIONS": f"suppressions={folder / 'leaks'}:print_suppressions=0",
    }

    def run(*arguments: object, leaks: bool = True, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [folder / "classify", *map(str, arguments)],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**environment, "ASAN_OPTIONS": f"detect_leaks={int(leaks)}"},
        )

    return run


def _sanitizers(folder: Path) -> bool:
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    built = subprocess.run(
        ["cc", "-fsanitize=address,undefined", probe, "-o", folder / "probe"], capture_output=True, check=False
    )
    return built.returncode == 0 and subprocess.run([folder / "probe"], check=False).returncode == 0


def pgm(path: Path, image: np.ndarray, comment: str = "") -> Path:
    """Write (H, W, 1) uint8 as a binary PGM."""
    height, width, _ = image.shape
    path.write_bytes(f"P5\n{comment}{width} {height}\n255\n".encode() + image.tobytes())
    return path


def printed(done: subprocess.CompletedProcess[str]) -> np.ndarray:
    """Logits (N, K) of a run that went well."""
    assert done.returncode == 0, done.stderr
    lines = [line.partition(" ood ")[0] for line in done.stdout.splitlines()]
    return np.array([[float(number) for number in line.split()] for line in lines])


def golden(bundle: Bundle, artifact: str) -> tuple[np.ndarray, float]:
    """(logits, tolerance) of the artifact: OpenVINO's where the bundle holds them, else another engine's."""
    rows = {row.engine: row for row in bundle.golden_expected() if row.artifact == artifact}
    if "openvino" in rows:
        return rows["openvino"].logits, rows["openvino"].tolerance
    precision = artifact.split(".")[1]
    return rows["onnxruntime"].logits, max(rows["onnxruntime"].tolerance, WIDER_TOLERANCES[precision])


def test_it_prints_the_golden_logits(classify: Run, tmp_path: Path) -> None:
    bundle = load()
    inputs = bundle.golden_inputs()
    pictures = [pgm(tmp_path / f"{i}.pgm", image) for i, image in enumerate(inputs)]
    for artifact in (a for a in bundle.artifacts if a.format == "onnx" and a.precision in ("fp32", "int8")):
        logits = printed(classify(bundle.path / artifact.file, *pictures))
        expected, tolerance = golden(bundle, artifact.file)
        assert np.abs(logits - expected).max() <= tolerance
        # Through Python, the same library and precision: the same numbers.
        engine = OpenVinoEngine(bundle.read(artifact.file), "cpu", artifact.precision, 1)
        same = np.concatenate([engine.run(image[None]).logits for image in inputs])
        assert np.abs(logits - same).max() < 1e-4


def test_fp32_is_computed_in_fp32(classify: Run, tmp_path: Path) -> None:
    """bfloat16 would be off by some 0.01 in these logits of up to 7."""
    bundle = load(SMALL)
    (row,) = (row for row in bundle.golden_expected() if row.artifact == "model.fp32.onnx")
    comment = "# a comment, as some programs write\n"
    pictures = [pgm(tmp_path / f"{i}.pgm", image, comment) for i, image in enumerate(bundle.golden_inputs())]
    logits = printed(classify(SMALL / "model.fp32.onnx", *pictures))
    assert np.abs(logits - row.logits).max() < 1e-4


def test_ood_is_printed_and_a_threshold_decides(classify: Run, tmp_path: Path) -> None:
    model = tmp_path / "ood.onnx"
    model.write_bytes(tiny.with_ood())
    images = load(SMALL).golden_inputs()
    pictures = [pgm(tmp_path / f"{i}.pgm", image) for i, image in enumerate(images)]
    by_hand = [tiny.tiny_ood(image[:, :, 0]) for image in images]
    done = classify(model, *pictures)
    np.testing.assert_allclose(printed(done), [tiny.tiny_logits(image[:, :, 0]) for image in images], atol=1e-4)
    said = [line.split(" ood ")[1] for line in done.stdout.splitlines()]
    np.testing.assert_allclose([float(number) for number in said], by_hand, atol=1e-4)
    oods = [float(np.float32(number)) for number in said]  # nine digits are a float32 to the last bit
    done = classify("-t", oods[3], model, *pictures)  # at the threshold it is silent
    answers = [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()]
    assert answers == ["abstained" if ood >= oods[3] else "answered" for ood in oods]
    assert set(answers) == {"abstained", "answered"}


def test_a_threshold_that_cannot_be_used_is_refused(classify: Run, tmp_path: Path) -> None:
    picture = pgm(tmp_path / "a.pgm", load(SMALL).golden_inputs()[0])
    for threshold in ("nan", "inf", "-inf", "1e999", "1x", "", "x"):
        done = classify("-t", threshold, SMALL / "model.fp32.onnx", picture)
        expected = f"classify: expected a finite THRESHOLD behind -t, got {threshold}\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    done = classify("-t", "1.5", SMALL / "model.fp32.onnx", picture)
    expected = f"classify: expected a model with the output ood for a THRESHOLD, got another: {SMALL}/model.fp32.onnx\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_picture_that_cannot_be_used_is_refused(classify: Run, tmp_path: Path) -> None:
    model = SMALL / "model.fp32.onnx"
    image = load(SMALL).golden_inputs()[0]
    good = pgm(tmp_path / "good.pgm", image).read_bytes()
    wide = pgm(tmp_path / "wide.pgm", np.zeros((64, 65, 1), dtype=np.uint8)).read_bytes()
    for content, message in (
        (b"\x89PNG\r\n\x1a\n" + good, "expected a grey binary PGM (P5), got something else"),
        (good.replace(b"P5", b"P2", 1), "expected a grey binary PGM (P5), got something else"),
        (b"P5\n64 -1\n255\n" + image.tobytes(), "expected a grey binary PGM (P5), got something else"),
        (b"P5\n99999999999999999999 64\n255\n", "expected a grey binary PGM (P5), got something else"),
        (b"P5\n64", "expected a grey binary PGM (P5), got something else"),
        (b"", "expected a grey binary PGM (P5), got something else"),
        (b"P5\n64 64\n65535\n" + 2 * image.tobytes(), "expected a PGM of 255 grey levels, got 65535"),
        (wide, "expected a picture of 64 x 64, got 65 x 64"),
        (good[:-1], "expected 4096 bytes of samples, got 4095"),
        (good + b"x", "expected 4096 bytes of samples, got more"),
    ):
        path = tmp_path / "bad.pgm"
        path.write_bytes(content)
        done = classify(model, path)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"classify: {message}: {path}\n")
    # What stood before it has been answered.
    done = classify(model, pgm(tmp_path / "good.pgm", image), path, tmp_path / "good.pgm")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    done = classify(model, tmp_path / "none.pgm")
    assert done.returncode == 1
    assert "the picture can't be opened (No such file or directory)" in done.stderr


def test_a_model_or_call_that_cannot_be_used_is_refused(classify: Run, tmp_path: Path) -> None:
    picture = pgm(tmp_path / "a.pgm", load(SMALL).golden_inputs()[0])
    missing = tmp_path / "none.onnx"
    done = classify(missing, picture)
    expected = f"classify: the model can't be opened (No such file or directory): {missing}\n"
    assert (done.returncode, done.stderr) == (3, expected)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((SMALL / "model.fp32.onnx").read_bytes()[:300])
    done = classify(damaged, picture, leaks=False)  # what OpenVINO leaves behind then is its own
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-1].startswith("classify: OpenVINO can't read the model (")
    for arguments in ((), (missing,)):
        done = classify(*arguments)
        assert done.returncode == 2
        expected = f"classify: expected [-t THRESHOLD] MODEL.onnx PICTURE.pgm..., got {len(arguments)} argument(s)\n"
        assert done.stderr == expected


def test_logits_that_cannot_be_written_are_no_success(classify: Run, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    picture = pgm(tmp_path / "a.pgm", load(SMALL).golden_inputs()[0])
    with Path("/dev/full").open("w") as full:
        done = classify(SMALL / "model.fp32.onnx", picture, stdout=full)
    assert done.returncode == 70
    assert "the logits can't be written" in done.stderr
