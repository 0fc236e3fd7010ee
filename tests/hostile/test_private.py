"""Private: nothing that a picture says about its patient leaves it, and nothing leaves the machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

import dicoms
from clinic import ends
from common import ROOT, noisy
from edgecxr.clinic import source
from hostile import measure
from hostile.pictures import encode

FILES = 200
# As it is, in UTF-16, in base64 and in hexadecimal.
CANARY = re.compile(rb"CANARY|C\0A\0N\0A\0R\0Y|Q0FOQVJZ|43414e415259", re.IGNORECASE)


def canary(number: int) -> str:
    return f"CANARY-{number:04}-Jane-Roe-1961"


def with_canary(number: int) -> tuple[str, bytes]:
    """(ending, bytes) of a picture that holds its canary in every place for words that its format has."""
    words, grey = canary(number), Image.fromarray(noisy((96, 80), number))
    exif = Image.Exif()
    for tag in (0x010E, 0x010F, 0x0131, 0x013B, 0x8298):  # description, make, software, artist, copyright
        exif[tag] = words
    exif[0x9C9B] = words.encode("utf-16-le")  # XPTitle
    details = exif.get_ifd(0x8769)
    details[0x9286], details[0x927C] = b"ASCII\0\0\0" + words.encode(), words.encode()  # UserComment, MakerNote
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:li>{words}</rdf:li></x:xmpmeta>'.encode()
    icc = b"\0" * 36 + b"acsp" + words.encode() * 4
    if number % 16 in (3, 7):  # half of the latter are damaged, as of the others
        data = Dataset()
        data.PatientName = data.PatientID = data.StudyDescription = words
        data.add_new(0x00091001, "LT", words)
        tags = {"PatientName": words, "PatientID": words, "StudyInstanceUID": words, "ImageComments": words}
        nested = {"OtherPatientIDsSequence": Sequence([data]), "BodyPartExamined": ("CHEST", words)[number // 16 % 2]}
        return "dcm", dicoms.film(noisy((96, 80), number), **tags, **nested) + words.encode()
    if number % 4 == 0:
        return "jpg", encode(grey, "JPEG", exif=exif, comment=words, xmp=xmp, icc_profile=icc) + words.encode()
    if number % 4 == 1:
        text = PngInfo()
        text.add_text("Comment", words)
        text.add_text(words[:60], words, zip=True)
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        text.add(b"prIv", words.encode())
        return "png", encode(grey, "PNG", exif=exif, pnginfo=text, icc_profile=icc) + words.encode()
    if number % 4 == 2:
        tags = {270: words, 305: words, 315: words, 65000: words}
        kind = {"compression": "tiff_lzw"} if number % 8 == 2 else {}
        return "tif", encode(grey, "TIFF", tiffinfo=tags, icc_profile=icc, **kind) + words.encode()
    return "bmp", encode(grey, "BMP") + words.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures with canaries in two labelled folders; every second of them damaged, most behind its words."""
    top = tmp_path_factory.mktemp("private") / "in"
    rng = np.random.default_rng(6)
    for number in range(FILES):
        ending, whole = with_canary(number)
        assert CANARY.search(whole)
        data = bytearray(whole)
        if number // 4 % 2:
            if number // 8 % 2:
                del data[int(rng.integers(len(data) // 2, len(data))) :]
            else:
                for position in rng.integers(len(data), size=40):
                    data[position] ^= 1 << int(rng.integers(8))
        label = top / ("covid" if number % 8 < 4 else "normal")
        label.mkdir(parents=True, exist_ok=True)
        (label / f"{number:04}.{ending}").write_bytes(data)
    return top


def assert_silent(*texts: bytes) -> None:
    for text in texts:
        found = CANARY.search(text)
        assert found is None, text[max(0, found.start() - 300) : found.end() + 100]


COMMANDS = {
    "table": ["infer", "{in}", "-m", "{model}"],
    "jsonl": ["infer", "{in}", "-m", "{model}", "-o", "{out}/r.jsonl"],
    "csv": ["infer", "{in}", "-m", "{model}", "-o", "{out}/r.csv", "--json"],
    "verbose": ["infer", "{in}", "-m", "{model}", "-o", "{out}/v.jsonl", "-v", "--self-test"],
    "stdout": ["infer", "{in}", "-m", "{model}", "-o", "-"],
    "bench": ["bench", "{in}", "-m", "{model}", "--seconds", "1", "-o", "{out}/b.json"],
    "eval": ["eval", "{model}", "{in}", "-o", "{out}/e.json"],
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.long) if n in ("bench", "eval", "stdout", "verbose") else n for n in COMMANDS],
)
def test_no_canary_on_any_output(folder: Path, tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = [part.format(**{"in": folder, "model": tiny_bundle, "out": out}) for part in COMMANDS[name]]
    # As talkative as Python gets: every warning, development mode, tracebacks.
    environment = {**os.environ, "EDGECXR_TRACEBACK": "1", "PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1"}
    command = [sys.executable, "-m", "edgecxr", *arguments]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False, timeout=300)
    assert done.returncode in (0, 1, 2), done.stderr
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert_silent(done.stdout, done.stderr, *written)
    if name == "jsonl":
        rows = [json.loads(line) for line in written[0].splitlines()]
        assert len(rows) == FILES
        assert {row["status"] for row in rows} == {"scored", "rejected"}


def named_film(number: int, study: str = "1.2.826.0.1.9") -> bytes:
    """A film with its canary wherever a film names somebody."""
    private = Dataset()
    private.PatientID = private.IssuerOfPatientID = canary(1)
    private.add_new(0x00091001, "LT", canary(2))
    words = canary(number)
    named = ("PatientName", "PatientID", "StudyDescription", "StationName", "OperatorsName", "ImageComments")
    uids = {f"{level}InstanceUID": f"1.2.826.0.1.{number}.{place}" for place, level in enumerate(("SOP", "Series"))}
    tags = {"StudyInstanceUID": study, "AcquisitionDate": words[:8], **uids}
    nested = {"OtherPatientIDsSequence": Sequence([private]), "RequestAttributesSequence": Sequence([private])}
    return dicoms.film(noisy((96, 80), number), **tags, **dict.fromkeys(named, words), **nested)


def assert_named_in_its_place(path: Path) -> None:
    """A result names its patient, in the modules of patient and study alone."""
    assert CANARY.search(path.read_bytes())
    result = pydicom.dcmread(path)
    for keyword in (source.PATIENT | source.STUDY) & {element.keyword for element in result}:
        del result[keyword]
    assert_silent(str(result).encode(), path.name.encode())


def test_results_as_dicom_name_the_patient_in_their_place_only(tiny_bundle: Path, tmp_path: Path) -> None:
    """Canaries wherever a film names somebody; half of the films are damaged within them."""
    rng, folder = np.random.default_rng(8), tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        data = bytearray(named_film(number) if number % 5 else named_film(number, canary(number)))
        if number % 2:
            places = [match.start() for match in CANARY.finditer(data)]
            for place in rng.choice(places, 2):
                data[place - int(rng.integers(1, 8))] ^= 1 << int(rng.integers(8))
        (folder / f"{number:02}.dcm").write_bytes(data)
    options = ["-m", tiny_bundle, "-o", tmp_path / "r.jsonl", "-v", "--dicom-out", tmp_path / "out", "--heat-map"]
    environment = {**os.environ, "EDGECXR_TRACEBACK": "1", "PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1"}
    command = [sys.executable, "-m", "edgecxr", "infer", folder, *options]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    assert_silent(done.stdout, done.stderr, (tmp_path / "r.jsonl").read_bytes())
    results = list((tmp_path / "out").iterdir())
    assert len(results) >= 8
    for path in results:
        assert_named_in_its_place(path)


def test_a_node_names_the_patient_in_its_spools_films_and_results_only(tiny_bundle: Path, tmp_path: Path) -> None:
    """As talkative as it gets; one result is refused by its target, and one film has none."""
    archive, spool = ends.Archive(), tmp_path / "spool"
    archive.answer = lambda number: 0xA900 if number == 1 else 0x0000
    archive.open()
    options = ["--spool", spool, "-m", tiny_bundle, "--engine", "onnxruntime", "--port", 0, "--keep-free", 0, "-v"]
    options += ["--send", archive.target, "--heat-map"]
    environment = {**os.environ, "EDGECXR_TRACEBACK": "1", "PYTHONWARNINGS": "always", "PYTHONDEVMODE": "1"}
    command = [sys.executable, "-m", "edgecxr", "listen", *map(str, options)]
    node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path)
    assert node.stdout is not None
    ready = node.stdout.readline()
    films = [named_film(number) for number in range(3)] + [named_film(3, "1.2.x")]
    assert ends.send(int(ready.split()[-1]), *films) == [0] * 4
    ends.wait_for(lambda: ends.films(spool, "failed") == 1 and len(archive.got) >= 1)
    ends.wait_for(lambda: b"refused" in b"".join(path.read_bytes() for path in spool.glob("*/*/journal.jsonl")))
    node.terminate()
    out, err = node.communicate(timeout=60)
    archive.close()
    status = subprocess.run([*command[:4], "--spool", spool, "--status"], capture_output=True, check=True).stdout
    assert b"received" in err
    assert_silent(ready, out, err, status, *(str(path).encode() for path in tmp_path.rglob("*")))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    results = [path for path in written if path.suffix == ".dcm" and path.name != "film.dcm"]
    assert len(results) == 6
    for path in results:
        assert_named_in_its_place(path)
    assert_silent(*(path.read_bytes() for path in written if path.suffix != ".dcm"))


def test_no_canary_in_a_hosts_log_or_in_a_traceback(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import logging, sys, traceback, warnings\n"
        "logging.basicConfig(level=logging.DEBUG, filename='host.log')\n"
        "logging.captureWarnings(True)\n"
        "import edgecxr\nfrom pathlib import Path\nfrom edgecxr.pictures import files\n"
        f"classifier = edgecxr.Classifier({str(tiny_bundle)!r})\n"
        f"paths = files.find([Path({str(folder)!r})]).paths\n"
        "for prediction in classifier.stream(paths): print(prediction)\n"
        "for path in paths:\n"
        "    try: print(classifier.evidence(path).shape)\n"
        "    except Exception: traceback.print_exc()\n"
        "logging.getLogger().warning('the end')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert b"PictureRejected" in done.stderr
    log = (tmp_path / "host.log").read_bytes()
    assert b"the end" in log
    assert_silent(done.stdout, done.stderr, log)


def test_a_name_is_a_choice(folder: Path, tiny_bundle: Path, tmp_path: Path, picture: Callable[..., Path]) -> None:
    import hashlib

    named = picture("in/CANARY-Roe.png")
    shutil.copy(named, named.parent / "CANARY-twin.png")
    (named.parent / "CANARY-cut.png").write_bytes(named.read_bytes()[:200])
    (named.parent / "CANARY-gone.png").symlink_to("nowhere")
    for output in ("-", "out.jsonl", "out.csv", None):
        where = [] if output is None else ["-o", output]
        arguments = ["infer", "in", "-m", tiny_bundle, "--id", "hash", *where]
        run = measure.edgecxr(tmp_path, *arguments, cwd=tmp_path)
        assert run.code == 1, run.stderr
        assert_silent(run.stdout.encode(), run.stderr.encode())
        assert output in ("-", None) or not CANARY.search((tmp_path / str(output)).read_bytes())
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    digest = hashlib.sha256(named.read_bytes()).hexdigest()
    cut = hashlib.sha256((named.parent / "CANARY-cut.png").read_bytes()).hexdigest()
    assert [row["path"] for row in rows] == [f"sha256:{digest}", f"sha256:{cut}", "unread:3", f"sha256:{digest}"]


def answers(text: str) -> list[dict[str, object]]:
    return [{k: v for k, v in json.loads(line).items() if k != "time_utc"} for line in text.splitlines()]


@pytest.mark.parametrize("verb", ["infer", "verify"])
def test_the_answer_is_the_same_where_there_is_no_network(tmp_path: Path, tiny_bundle: Path, verb: str) -> None:
    ways = [["unshare", "-n"], ["unshare", "-rn"]] if shutil.which("unshare") else []
    alone = next(
        (w for w in ways if subprocess.run([*w, "true"], check=False, capture_output=True).returncode == 0), None
    )
    if alone is None:
        pytest.skip("no network namespace can be made here: unshare -n is refused")
    interfaces = subprocess.run([*alone, "cat", "/proc/net/dev"], capture_output=True, text=True, check=True).stdout
    assert interfaces.count(":") == 1  # the loopback device, which is down
    arguments = ["infer", ROOT / "samples", "-o", "-"] if verb == "infer" else ["verify", tiny_bundle, "--json"]
    command = [sys.executable, "-m", "edgecxr", *map(str, arguments)]
    runs = [measure.run(tmp_path, [*prefix, *command]) for prefix in ([], alone)]
    assert [run.code for run in runs] == [0, 0], runs[1].stderr
    if verb == "infer":
        assert answers(runs[0].stdout) == answers(runs[1].stdout)
        assert len(answers(runs[0].stdout)) == 5
    else:
        assert json.loads(runs[0].stdout) == json.loads(runs[1].stdout)


def test_no_socket_is_opened(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "def watch(event, arguments):\n"
        "    if event.startswith(('socket.', 'urllib.', 'http.')): raise SystemExit(f'used {event}')\n"
        "sys.addaudithook(watch)\n"
        f"sys.argv = ['edgecxr', 'infer', {str(ROOT / 'samples')!r}, '-m', {str(tiny_bundle)!r}, '-o', '-']\n"
        "from edgecxr.__main__ import main\nmain()\n"
    )
    run = measure.run(tmp_path, [sys.executable, "-c", code])
    assert run.code == 0, run.stderr
    assert len(run.stdout.splitlines()) == 5
