"""examples/web in headless Chromium: it answers as the runtime does, and asks nobody but its server (`-m browser`).

What `npm install --no-package-lock` brings is taken from EDGECXR_WEB, a folder with node_modules, or from beside the
page; else npm brings it into a folder of the test's own. Without npm and Chromium this file is skipped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

import tiny
from browser import CHROMIUM, Browser
from common import ROOT, noisy
from edgecxr import Classifier, load
from edgecxr.device.golden import WIDER_TOLERANCES
from edgecxr.errors import PictureRejected
from edgecxr.pictures import decode
from edgecxr.pictures.preprocess import Contract

SOURCE = ROOT / "examples" / "web"
sys.path.insert(0, str(SOURCE))
import make_site  # noqa: E402  it lies beside the page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (set EDGECXR_CHROMIUM)"),
]

EMBEDDED = load()
ABSTAIN_AT = 2.0  # of the tiny network's ood: a mean grey of 100 and more abstains
WEBGPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
PATIENCE = 240.0  # seconds for a network that something else on the machine slows down
# A worker of the test's own, as the page has one.
ASK = """
window.ask ??= (() => {
  const worker = new Worker("worker.js", {type: "module"}), asked = new Map();
  worker.onmessage = ({data}) => { asked.get(data.id)(data); asked.delete(data.id); };
  return (what, given) => new Promise((done, failed) => {
    const id = Math.random();
    asked.set(id, ({result, error}) => error === undefined ? done(result) : failed(new Error(error)));
    worker.postMessage({id, what, ...given});
  });
})();
window.file = (name, text) => new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], name);
"""
# A page answers a test in text alone.
PREPARED = """
Promise.all([import("./decode.js"), import("./preprocess.js")]).then(async ([decoding, preparing]) => {
  try {
    const contract = %s;
    const found = await decoding.decode(new Uint8Array(await file("a", %s).arrayBuffer()), contract);
    const grey = preparing.toUint8(found.pixels, found.bits);
    const image = preparing.preprocess(grey, found.width, found.height, contract);
    return {image: Array.from(image), file: found.file, bits: found.bits};
  } catch (error) { return {code: error.code ?? String(error)}; }
})
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for folder in (os.environ.get("EDGECXR_WEB"), SOURCE):
        if folder and (Path(folder) / "node_modules" / "onnxruntime-web").is_dir():
            return Path(folder) / "node_modules"
    if shutil.which("npm") is None:
        pytest.skip("no npm here (or set EDGECXR_WEB)")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(SOURCE / "package.json", folder)
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        pytest.skip(f"npm can't install here: {done.stderr.strip().splitlines()[0]}")
    return folder / "node_modules"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


Serve = Callable[[Path], str]


@pytest.fixture(scope="module")
def serve(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The address of a site that holds a bundle; one site a bundle."""
    addresses: dict[Path, str] = {}
    servers = []

    def address(bundle: Path) -> str:
        if bundle not in addresses:
            site = tmp_path_factory.mktemp("site")
            make_site.make(site, bundle, packages)
            servers.append(make_site.server(site))
            threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
            addresses[bundle] = f"http://127.0.0.1:{servers[-1].server_port}/"
        return addresses[bundle]

    yield address
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, which can abstain."""
    return tiny.write_bundle(tmp_path_factory.mktemp("small") / "tiny.edgecxr", abstain_at=ABSTAIN_AT)


def wait(browser: Browser, condition: str) -> None:
    end = time.monotonic() + PATIENCE
    while not browser.js(condition):
        assert time.monotonic() < end, (browser.errors, browser.js("document.body.innerText"))
        time.sleep(0.05)


def text(browser: Browser, field: str) -> str:
    return str(browser.js(f"document.getElementById({field!r}).textContent"))


def opened(browser: Browser, address: str, **how: Any) -> None:
    """The page, with its model loaded."""
    browser.open(address, **how)
    wait(browser, "!document.getElementById('verify').disabled")


def scored(browser: Browser, paths: list[Path]) -> None:
    """Give films to the page, and wait for their answers."""
    browser.choose("files", paths)
    wait(browser, f"document.querySelectorAll('#films > li').length === {len(paths)}")
    wait(browser, "!document.getElementById('progress').textContent.startsWith('Scoring')")


def ask(browser: Browser, what: str, given: str = "{}") -> Any:
    return browser.js(f"{ASK} ask({what!r}, {given})")


def prepared(browser: Browser, data: bytes, contract: Contract) -> tuple[np.ndarray | str, Any]:
    """(the network's input (H, W), (the file's size, bits)) as the page makes it, or (code of a rejection, None)."""
    browser.js(ASK)
    encoded = base64.b64encode(data).decode()
    found = browser.js(PREPARED % (json.dumps(contract.to_json()), json.dumps(encoded)))
    if "code" in found:
        return found["code"], None
    image = np.array(found["image"], dtype=np.uint8).reshape(contract.height, contract.width)
    return image, (*found["file"], found["bits"])


# The model


def test_it_gives_the_golden_logits(browser: Browser, serve: Serve) -> None:
    opened(browser, serve(EMBEDDED.path))
    assert f"{EMBEDDED.name} {EMBEDDED.version}, int8" in text(browser, "model")
    ask(browser, "open", "{on: 'cpu'}")
    found = ask(browser, "verify")
    artifact = next(row for row in EMBEDDED.artifacts if row.format == "onnx" and row.preferred)
    (row,) = (
        row
        for row in EMBEDDED.golden_expected()
        if (row.artifact, row.engine) == (artifact.file, "onnxruntime") and row.precision in (None, artifact.precision)
    )
    assert found["passed"] and found["pictures"] == len(row.logits) == len(found["milliseconds"])
    assert found["tolerance"] == row.tolerance and 0 <= found["worst"] <= row.tolerance
    assert (found["oodTolerance"] is None) == (row.ood is None)
    assert min(found["milliseconds"]) > 0
    assert browser.errors == []


def test_a_wrong_answer_is_told(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    bundle = tiny.write_bundle(tmp_path / "wrong.edgecxr", tiny.tiny_model(tiny.BIAS + np.float32(0.5)))
    opened(browser, serve(bundle))
    browser.js("document.getElementById('verify').click()")
    wait(browser, "/on 8 pictures/.test(document.getElementById('verified').textContent)")
    assert text(browser, "verified").startswith("WRONG on 8 pictures: a logit is off by at most 0.50 (accepted: 0.001)")


def test_a_bundle_that_is_not_what_it_says_is_refused(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    def altered(name: str, change: Callable[[Path], object]) -> str:
        bundle = tiny.write_bundle(tmp_path / f"{name}.edgecxr")
        change(bundle)
        browser.open(serve(bundle))
        wait(browser, "document.getElementById('model').classList.contains('bad')")
        assert browser.js("document.getElementById('verify').disabled")
        return text(browser, "model")

    def flip(bundle: Path) -> None:
        data = bytearray((bundle / "model.int8.onnx").read_bytes())
        data[-1] ^= 1
        (bundle / "model.int8.onnx").write_bytes(data)

    def reheat(bundle: Path) -> None:
        manifest = (bundle / "bundle.json").read_text()
        (bundle / "bundle.json").write_text(manifest.replace('"temperature": 2.0', '"temperature": 2.5'))

    assert altered("network", flip) == "The bundle is damaged: model.int8.onnx isn't the file that it lists."
    assert altered("manifest", reheat) == "The bundle is damaged: its manifest has another digest than it says."
    contract = {**tiny.CONTRACT.to_json(), "filter": "lanczos"}
    said = altered("contract", lambda b: tiny.write_bundle(b, preprocessing=contract))
    assert said == "The page doesn't know this preprocessing contract: filter."
    said = altered("silence", lambda b: tiny.write_bundle(b, abstention=tiny.abstention(1.0)))
    assert said == "The bundle has thresholds without the output ood, or the output without thresholds."


def test_a_digest_of_any_letters_and_numbers_holds(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    odd = {"provenance": {"whose": "Ärzte 🩻\x7f\u2028", "numbers": [1.0, 1e-7, 0.1, -0.0, 2**60], "none": None}}
    opened(browser, serve(tiny.write_bundle(tmp_path / "odd.edgecxr", **odd)))
    assert text(browser, "model").startswith("tiny 1, int8")


def test_a_gpu_gives_the_golden_logits_in_fp32(serve: Serve, small: Path) -> None:
    with Browser(*WEBGPU) as browser:
        opened(browser, serve(small))
        if not browser.js("navigator.gpu?.requestAdapter().then(found => !!found) ?? false"):
            pytest.skip("this Chromium has no WebGPU")
        assert not browser.js("document.getElementById('where').hidden")
        assert ask(browser, "open", "{on: 'webgpu'}")["precision"] == "fp32"
        found = ask(browser, "verify")
        assert found["passed"] and found["worst"] <= found["tolerance"] == WIDER_TOLERANCES["fp32"]
        film = base64.b64encode(_png(noisy((96, 80)))).decode()
        record = ask(browser, "score", f"{{file: file('a.png', {film!r})}}")["record"]
        assert (record["device"], record["precision"], record["provider"]) == ("webgpu", "fp32", "WebGPU")
        assert browser.errors == []


# Preprocessing


def _png(pixels: np.ndarray | Image.Image, **how: Any) -> bytes:
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(out, "PNG", **how)
    return out.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _raw_png(rows: list[bytes], width: int, height: int, bits: int, colour: int, *, interlaced: int = 0) -> bytes:
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, interlaced])
    stored = zlib.compress(b"".join(b"\0" + row for row in rows))
    ends = _chunk(b"IDAT", stored) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + ends


def _interlaced(pixels: np.ndarray) -> bytes:
    """(H, W) uint8 or uint16 in the passes of Adam7 (ISO/IEC 15948, 8.2), which Pillow doesn't write."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [
        row.astype(row.dtype.newbyteorder(">")).tobytes()
        for top, left, down, across in passes
        for row in pixels[top::down, left::across]
        if row.size
    ]
    return _raw_png(rows, pixels.shape[1], pixels.shape[0], 8 * pixels.itemsize, 0, interlaced=1)


def _pngs() -> dict[str, bytes]:
    """PNGs of every kind that is read, as phantoms and noise."""
    rng = np.random.default_rng(5)
    phantom = np.asarray(Image.open(ROOT / "samples" / "phantom-1.png").convert("L"))  # (512, 448)
    colours = rng.integers(0, 256, (130, 97, 4)).astype(np.uint8)
    deep = (phantom.astype(np.uint16) << 8) | rng.integers(0, 256, phantom.shape).astype(np.uint16)
    made = {f"phantom-{path.name}": path.read_bytes() for path in (ROOT / "samples").glob("*.png")}
    made |= {
        "small": _png(noisy((64, 70))),
        "just the input's size": _png(noisy((299, 299))),
        "wide": _png(noisy((1900, 130))),
        "tall": _png(noisy((90, 1500))),
        "RGB": _png(colours[..., :3]),
        "transparent": _png(colours),
        "grey and transparent": _png(colours[..., :2], optimize=True),
        "palette": _png(Image.fromarray(colours[..., :3]).quantize(200)),
        "palette of 4 bits": _png(Image.fromarray(colours[..., :3]).quantize(16), bits=4),
        "two colours": _png(Image.fromarray(phantom).convert("1")),
        "grey of 4 bits": _raw_png([rng.bytes(40) for _ in range(66)], 79, 66, 4, 0),
        "grey of 2 bits": _raw_png([rng.bytes(20) for _ in range(66)], 78, 66, 2, 0),
        "16 bits": _png(deep),
        "14 bits in 16": _png(deep >> 2),
        "10 bits in 16": _png(deep >> 6),
        "interlaced": _interlaced(phantom[:131, :99]),
        "interlaced, 16 bits": _interlaced(deep[:70, :65]),
    }
    for kind in range(2, 9):
        exif = Image.Exif()
        exif[0x112] = kind
        made[f"EXIF {kind}"] = _png(noisy((90, 70)), exif=exif)
    return made


CONTRACTS = {
    "the embedded one": EMBEDDED.preprocessing,
    "224 px": Contract(height=224, width=224),
    "reduced on the way": Contract(height=299, width=288, source_size=80),
}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_a_png_is_prepared_to_the_grey_level(browser: Browser, serve: Serve, small: Path, contract: Contract) -> None:
    browser.open(serve(small))
    for name, data in _pngs().items():
        image, known = prepared(browser, data, contract)
        picture = decode.decode(data, contract)
        assert known == (picture.width, picture.height, picture.bits), name
        np.testing.assert_array_equal(image, decode.prepare(picture, contract), err_msg=name)


def _jpegs() -> dict[str, bytes]:
    made = {path.name: path.read_bytes() for path in (ROOT / "samples").glob("*.jpg")}
    film = Image.open(ROOT / "samples" / "phantom-4-1.5-megapixels.jpg").convert("L")

    def grained(width: int, height: int) -> Image.Image:
        """The film enlarged, with a film's grain."""
        large = np.asarray(film.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        grain = np.random.default_rng(9).normal(0, 6, large.shape)
        return Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8))

    exif = Image.Exif()
    exif[0x112] = 6
    for name, image, how in (
        ("reduced by 2", grained(1403, 1521), {"quality": 92}),
        ("reduced by 4, turned", grained(2611, 2703), {"quality": 92, "exif": exif}),
        ("colour", Image.merge("RGB", [film, film.point(lambda x: x * 0.9), film.point(lambda x: x * 0.8)]), {}),
        ("progressive", film, {"progressive": True}),
        ("turned", film, {"exif": exif}),
    ):
        out = io.BytesIO()
        image.save(out, "JPEG", **how)
        made[name] = out.getvalue()
    return made


def test_a_jpeg_is_prepared_nearly_so(browser: Browser, serve: Serve, small: Path) -> None:
    """Not equal: the decoder that reduces a large one rounds once, and browsers give colours."""
    browser.open(serve(small))
    contract = EMBEDDED.preprocessing
    for name, data in _jpegs().items():
        image, known = prepared(browser, data, contract)
        picture = decode.decode(data, contract)
        assert known == (picture.width, picture.height, 8), name
        differences = np.abs(image.astype(int) - decode.prepare(picture, contract))
        reduced = picture.pixels.size < picture.width * picture.height
        assert reduced or "reduced" not in name
        assert differences.mean() <= (0.3 if reduced or name == "colour" else 0), name
        assert differences.max() <= 2, name


def test_what_is_no_film_is_rejected_as_by_the_runtime(browser: Browser, serve: Serve, small: Path) -> None:
    browser.open(serve(small))
    whole = _png(noisy((96, 80)))
    jpeg = (ROOT / "samples" / "phantom-3.jpg").read_bytes()
    place = whole.index(b"IDAT") + 40
    cmyk = io.BytesIO()
    Image.fromarray(noisy((96, 80))).convert("CMYK").save(cmyk, "JPEG")
    frames = io.BytesIO()
    parts = [Image.fromarray(noisy((96, 80), seed)) for seed in (1, 2)]
    parts[0].save(frames, "PNG", save_all=True, append_images=parts[1:])
    deep_colour = _raw_png([bytes(70 * 6)] * 70, 70, 70, 16, 2)
    for name, data in {
        "nothing": b"",
        "small": _png(noisy((96, 63))),
        "cut": whole[: len(whole) // 2],
        "a flipped bit": whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :],
        "cut JPEG": jpeg[: len(jpeg) // 2],
        "CMYK": cmyk.getvalue(),
        "two frames": frames.getvalue(),
        "deep colour": deep_colour,
        "a bomb": _raw_png([bytes(20_000)], 20_000, 20_000, 8, 0),
        "a bomb of fewer pixels": _raw_png([bytes(8_000)], 8_000, 8_000, 8, 0),
    }.items():
        with pytest.raises(PictureRejected) as rejected:
            decode.decode(data, tiny.CONTRACT)
        assert prepared(browser, data, tiny.CONTRACT) == (rejected.value.code, None), name
    # What the runtime reads and the page doesn't is told, and not read otherwise.
    tiff = io.BytesIO()
    Image.fromarray(noisy((96, 80))).save(tiff, "TIFF")
    dicom = b"\0" * 128 + b"DICM"
    codes = [prepared(browser, data, tiny.CONTRACT)[0] for data in (tiff.getvalue(), dicom, b"# text")]
    assert codes == ["unsupported_format", "dicom", "unsupported_format"]


# Answers


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """What of a record doesn't depend on who wrote it, or when."""
    apart = {"mtime_ns", "path", "engine", "provider", "device", "time_utc", "error"}
    numbers = {name for name in record if name.startswith(("p_", "logit_", "ood_"))}
    return {name: record[name] for name in record if name not in apart | numbers}


def test_records_are_those_of_infer(
    browser: Browser, serve: Serve, small: Path, tmp_path: Path, edgecxr: Callable[..., Any]
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for name, data in {
        "1-scored.png": _png(noisy((96, 80)) // 2),
        "2-abstained.png": _png(noisy((96, 80))),
        "3-blank.png": _png(np.full((80, 96), 7, dtype=np.uint8)),
        "4-ünïcode.png": _png(noisy((200, 300), 3) // 3),
        "5-cut.png": _png(noisy((96, 80)))[:-900],
    }.items():
        (folder / name).write_bytes(data)
    paths = sorted(folder.iterdir())
    done = edgecxr("infer", folder, "-m", small, "--engine", "onnxruntime", "--precision", "int8", "-o", "-")
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    opened(browser, serve(small))
    browser.js(
        "URL.createObjectURL = (made => blob => { if (blob.type === 'application/x-ndjson') window.saved = blob.text();"
        "return made.call(URL, blob); })(URL.createObjectURL)"
    )
    scored(browser, paths)
    assert text(browser, "progress") == "5 films: 2 scored, 1 abstained, 2 rejected."
    browser.js("HTMLAnchorElement.prototype.click = () => 0; document.getElementById('save').click()")
    saved = browser.js("window.saved")
    assert saved.isascii()
    records = [json.loads(line) for line in saved.splitlines()]
    schema = Draft202012Validator(json.loads((ROOT / "docs" / "records.schema.json").read_bytes()))
    for path, found, same in zip(paths, records, expected, strict=True):
        assert list(found) == list(same)
        assert list(schema.iter_errors(found)) == []
        assert found["path"] == path.name
        assert _told(found) == _told(same)
        assert (found["error"] or {}).get("code") == (same["error"] or {}).get("code")
        for name in same:
            if name.startswith(("p_", "logit_", "ood_")):
                assert found[name] == (None if same[name] is None else pytest.approx(same[name], abs=1e-5)), name
    assert [record["status"] for record in records] == ["scored", "abstained", "rejected", "scored", "rejected"]
    shown = browser.js("[...document.querySelectorAll('#films > li')].map(item => item.innerText)")
    assert "Abstained, no answer: too unlike frontal chest films (ood 2." in shown[1]
    assert "probability" not in shown[1].lower() and "which is no answer" in shown[1]
    assert "Rejected: the picture is blank." in shown[2]
    # Whatever a name holds is text.
    browser.js("document.getElementById('clear').click()")
    hostile = tmp_path / "<img src=x onerror=alert(1)>.png"
    hostile.write_bytes((folder / "1-scored.png").read_bytes())
    scored(browser, [hostile])
    assert browser.js("document.querySelector('#films h3').textContent") == hostile.name
    assert browser.errors == []


def test_the_threshold_is_that_of_what_is_run(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    rows = tiny.abstention(1.0)
    for row, (threshold, engine) in zip(rows["thresholds"], ((1.25, "openvino"), (1.5, "onnxruntime")), strict=True):
        row.update(artifact="model.int8.onnx", precision="int8", engine=engine, threshold=threshold)
    rows["thresholds"] += [{**rows["thresholds"][0], "artifact": "model.fp32.onnx", "threshold": t} for t in (3.0, 2.0)]
    opened(browser, serve(tiny.write_bundle(tmp_path / "a.edgecxr", abstain_at=1.0, abstention=rows)))
    ask(browser, "open", "{on: 'cpu'}")
    for mean, status in ((74, "scored"), (76, "abstained")):  # ood is 0.02 a grey level
        film = np.tile(np.array([mean - 10, mean + 10], dtype=np.uint8), (64, 32))
        name = base64.b64encode(_png(film)).decode()
        record = ask(browser, "score", f"{{file: file('a.png', {name!r})}}")["record"]
        assert (record["status"], record["abstain_at"], record["abstention"]) == (status, 1.5, "bundle")
    # The artifact that a GPU runs has thresholds of other engines alone: the largest, which keeps the most films.
    manifest = json.dumps({"abstention": rows})
    rule = f"import('./bundle.js').then(b => b.abstentionRule({manifest}, {{file: 'model.fp32.onnx'}}, 'webgpu'))"
    assert browser.js(rule) == {"by": "bundle", "threshold": 3.0}


def test_a_films_logits_are_within_int8s_tolerance(browser: Browser, serve: Serve, tmp_path: Path) -> None:
    classifier = Classifier(engine="onnxruntime", precision="int8")
    tolerance = min(row.tolerance for row in EMBEDDED.golden_expected() if row.artifact == "model.int8.onnx")
    opened(browser, serve(EMBEDDED.path))
    ask(browser, "open", "{on: 'cpu'}")
    for name in ("phantom-2.png", "phantom-5-12-bit.png", "phantom-4-1.5-megapixels.jpg"):
        data = (ROOT / "samples" / name).read_bytes()
        encoded = base64.b64encode(data).decode()
        found = ask(browser, "score", f"{{file: file({name!r}, {encoded!r})}}")
        expected = classifier.predict(data)
        logits = [found["record"][f"logit_{label}"] for label in classifier.labels]
        worst = np.abs(np.array(logits) - list(expected.logits.values())).max()
        assert worst <= (1e-4 if name.endswith("png") else tolerance), name  # the kernels' own rounding; a JPEG's grey
        assert found["record"]["status"] == expected.status
        assert found["record"]["sha256"] == hashlib.sha256(data).hexdigest()


def test_evidence_is_drawn_where_it_is(browser: Browser, serve: Serve, small: Path, tmp_path: Path) -> None:
    film = np.full((640, 640), 80, dtype=np.uint8) + noisy((640, 640)) // 64
    film[320:480, 480:] = 230  # the tiny network's evidence is the mean grey of each of 4 x 4 places
    path = tmp_path / "a.png"
    path.write_bytes(_png(film))
    opened(browser, serve(small))
    scored(browser, [path])
    assert browser.js("document.querySelector('#films .answer').textContent").startswith("covid, probability 0.")
    alt = "The same film with its evidence for covid, strongest in the picture's middle right."
    assert browser.js("document.querySelectorAll('#films img')[1].alt") == alt
    pixels = browser.js(
        "(() => { const image = document.querySelectorAll('#films img')[1], canvas = document.createElement('canvas');"
        "canvas.width = image.naturalWidth; canvas.height = image.naturalHeight; const c = canvas.getContext('2d');"
        "c.drawImage(image, 0, 0);"
        "return [[560, 400], [80, 80]].map(([x, y]) => [...c.getImageData(x, y, 1, 1).data]); })()"
    )
    (red, _, blue, _), (dim_red, _, dim_blue, _) = pixels
    # Orange (230, 97, 0) covers 0.6 of the strongest place, and 0.6 x 80 / 230 of the others.
    assert red - blue == pytest.approx(0.6 * 230, abs=12)
    assert dim_red - dim_blue == pytest.approx(0.6 * 80 / 230 * 230, abs=12)


# The page


def test_nothing_is_asked_of_anybody_else(browser: Browser, serve: Serve, small: Path, tmp_path: Path) -> None:
    address = serve(small)
    opened(browser, address)
    path = tmp_path / "a.png"
    path.write_bytes(_png(noisy((96, 80))))
    scored(browser, [path])
    browser.js("document.getElementById('verify').click()")
    wait(browser, "document.getElementById('verified').textContent.startsWith('Right')")
    own = {name.removeprefix(address) for name in browser.requested if name.startswith(address)}
    others = [name for name in browser.requested if not name.startswith((address, f"blob:{address}", "data:"))]
    assert others == []
    # The worker's requests are seen as well as the page's; and the GPU's files aren't fetched for nothing.
    assert {"", "page.js", "worker.js", "ort/ort-wasm-simd-threaded.wasm", "bundle/model.int8.onnx"} <= own
    assert not {name for name in own if "webgpu" in name or "asyncify" in name or "fp32" in name}
    assert browser.errors == []


def test_the_policy_lets_nothing_out(browser: Browser, small: Path, packages: Path, tmp_path: Path) -> None:
    make_site.make(tmp_path, small, packages)
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, make_site.server(tmp_path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        elsewhere.settimeout(0)
        go = f"fetch('http://127.0.0.1:{elsewhere.getsockname()[1]}/').then(() => 'out', () => 'kept')"
        (tmp_path / "go.js").write_text(f"{go}.then(said => postMessage(said))")
        browser.open(f"http://127.0.0.1:{server.server_port}/")
        assert browser.js("crossOriginIsolated") is True
        assert browser.js(go) == "kept"
        assert browser.js("new Promise(done => new Worker('go.js').onmessage = ({data}) => done(data))") == "kept"
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
        # Of a server that sends no headers the page keeps its own policy, in its head.
        server.shutdown()
    policy = make_site.HEADERS["Content-Security-Policy"]
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in (SOURCE / "index.html").read_text()


def test_a_keyboard_does_it_all(browser: Browser, serve: Serve, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png(noisy((96, 80)) // 2))
    opened(browser, serve(small))
    scored(browser, [path])
    reached = []
    browser.js("document.activeElement.blur()")
    for _ in range(12):
        browser.press("Tab")
        reached.append(browser.js("document.activeElement.id || document.activeElement.tagName"))
        if reached[-1] == "SUMMARY":
            browser.press("Enter", "\r")
            assert browser.js("document.activeElement.parentNode.open") is True
        if reached[-1] == "verify":
            browser.press("Enter", "\r")
            break
    assert [name for name in reached if name not in ("device", "BODY")] == [
        "files",
        "save",
        "clear",
        "SUMMARY",
        "verify",
    ]
    wait(browser, "document.getElementById('verified').textContent.startsWith('Right')")


def test_a_screen_reader_finds_names_and_roles(browser: Browser, serve: Serve, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png(noisy((96, 80)) // 2))
    opened(browser, serve(small))
    scored(browser, [path])
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    found = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n["ignored"]]
    for role in ("button", "image", "region", "table", "rowheader"):
        names = [name for kind, name in found if kind == role]
        assert names and all(names), role
    assert {"main", "status", "list", "heading"} <= {role for role, _ in found}
    assert any(role in ("button", "group") and "Choose films" in name for role, name in found)


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False), (320, True)])
def test_axe_finds_nothing_serious(
    browser: Browser, serve: Serve, small: Path, packages: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    paths = [tmp_path / f"a-name-of-a-film-that-is-{'longer-' * n}than-others.png" for n in range(1, 9, 3)]
    for path, pixels in zip(paths, (noisy((96, 80)) // 2, noisy((96, 80)), np.zeros((80, 96), np.uint8)), strict=True):
        path.write_bytes(_png(pixels))
    opened(browser, serve(small), width=width, dark=dark)
    scored(browser, paths)
    browser.js("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.js("document.documentElement.scrollWidth") <= width
    ground = browser.js("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, ground[4:-1].split(", "))) < 60) is dark
    browser.js((packages / "axe-core" / "axe.min.js").read_text() + ";0")
    found = browser.js("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html]))")
    assert [one for one in found if one[0] in ("serious", "critical")] == []
    assert browser.js("axe.run().then(r => r.passes.length)") > 10
    assert browser.js("document.body.innerText.toLowerCase().split('not a medical device').length") == 2  # once


# The site


def test_versions_are_exact_and_nothing_else_is_needed(packages: Path, tmp_path: Path) -> None:
    declared = json.loads((SOURCE / "package.json").read_text())
    for name, version in {**declared["dependencies"], **declared["devDependencies"]}.items():
        assert json.loads((packages / name / "package.json").read_text())["version"] == version
    assert not list(SOURCE.glob("*lock*"))
    sizes = make_site.make(tmp_path / "site", EMBEDDED.path, packages)
    assert sizes["page"] < 100_000 and set(sizes) == {"page", "ort", "bundle"}
    with pytest.raises(SystemExit, match="npm install --no-package-lock"):
        make_site.make(tmp_path / "site", EMBEDDED.path, tmp_path)
    with pytest.raises(SystemExit, match=r"expected a bundle with its bundle\.json, got"):
        make_site.make(tmp_path / "site", tmp_path, packages)
