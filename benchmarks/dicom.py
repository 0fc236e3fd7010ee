"""DICOM: is each outcome the expected one, how near is each film to another program's, how fast are compressed ones?

    python benchmarks/dicom.py DATA/dicom [-o benchmarks/results/dicom] [--rounds 5] [--films 12]

Outcomes and reference pictures are the manifest's. Grey levels are means of absolute differences to dcmtk's pictures,
by rule. Then what other ranges would have given where a film has no VOI: each film's VOI is left out, and what is drawn
without it is compared with what is drawn with it. Rates are of `edgecxr.Classifier.stream` on one worker: FILMS copies
of a real film, the same pixels as 16-bit PNG and as DICOM in each transfer syntax, in turn; ratios are medians of
rounds.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import struct
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from edgecxr import Classifier
from edgecxr.pictures import decode as images
from edgecxr.pictures.dicom import elements, render, samples
from edgecxr.system.machine import fingerprint

HERE = Path(__file__).parent
FILM = "real/744d0137_RG1_J2KI.dcm"  # 1841 x 1955 px of 15 bits
RANGES = {
    "min to max": (0.0, 0.0),
    "percentiles 0.5 to 99.5": (0.005, 0.0),
    "percentiles 1 to 99": (0.01, 0.0),
    "percentiles 0.5 to 99.5, and a tenth (taken)": (render.TAIL, render.MARGIN),
}
# Films with a VOI that differ; the others are the last of these with one oddity each.
ONE_OF_EACH = (FILM, "real/cd42cef2_gdcm-CR-MONO1-10-chest.dcm", "derived/ts_explicit_le.dcm")
VOI = (elements.VOI_LUT, elements.WINDOW_CENTER, elements.WINDOW_WIDTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results" / "dicom", help="without its ending")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--films", type=int, default=12)
    arguments = parser.parse_args()
    with (arguments.data / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    classifier = Classifier()
    report = {
        "schema": 1,
        "outcomes": outcomes(arguments.data, rows, classifier),
        "without_voi": without_voi(arguments.data, rows),
        "rates": rates(arguments.data / FILM, classifier, arguments.films, arguments.rounds),
        "machine": fingerprint(["numpy", "pillow", "imagecodecs", "onnxruntime"]),
    }
    arguments.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(table(report))
    print(table(report))


def outcomes(folder: Path, rows: list[dict[str, str]], classifier: Classifier) -> dict[str, Any]:
    """How many files had the outcome that the manifest expects, and the grey levels to its references by rule."""
    wrong: list[str] = []
    levels: dict[str, list[float]] = defaultdict(list)
    for row, prediction in zip(rows, classifier.stream(folder / row["file"] for row in rows), strict=True):
        outcome = "reject" if prediction.status == "rejected" else "score"
        if row["expected"] not in ("either", outcome):
            wrong.append(f"{row['file']}: {outcome}")
        if outcome == "score" and row["reference"]:
            picture = images.decode((folder / row["file"]).read_bytes(), classifier.bundle.preprocessing)
            with Image.open(folder / row["reference"]) as reference:
                levels[row["reference_rule"]].append(difference(picture.pixels, np.asarray(reference.convert("L"))))
    by_rule = {rule: {"films": len(v), "mean": statistics.mean(v), "most": max(v)} for rule, v in levels.items()}
    return {"files": len(rows), "wrong": wrong, "by_rule": by_rule}


def difference(pixels: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference in grey levels, at the size of `expected`."""
    ours = Image.fromarray(pixels).resize(expected.shape[::-1], Image.Resampling.BOX)
    return float(np.abs(np.asarray(ours).astype(float) - expected).mean())


def without_voi(folder: Path, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Each way to choose a range: on films whose VOI is left out, against what it draws; on films without, dcmtk's."""
    levels: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        own = row["expected"] == "score" and ("WC=" in row["voi"] or "VOILUT" in row["voi"])
        if not (own and row["file"] in ONE_OF_EACH) and row["reference_rule"] != "minmax":
            continue
        found = elements.read((folder / row["file"]).read_bytes())
        stored = samples.read(found, images.MAX_PIXELS, images.MIN_SIDE, images._baseline_jpeg)
        if own:
            expected, _ = render.render(stored, found)
        else:
            with Image.open(folder / row["reference"]) as reference:
                expected = np.asarray(reference.convert("L"))
        bare = replace(found, values={tag: v for tag, v in found.values.items() if tag not in VOI})
        for name, (render.TAIL, render.MARGIN) in RANGES.items():  # type: ignore[misc]
            levels[name][row["file"]] = difference(render.render(stored, bare)[0], expected)
    return levels


def rates(path: Path, classifier: Classifier, films: int, rounds: int) -> dict[str, Any]:
    """Pictures a second of each kind, and the median of its ratios to PNG's."""
    found = elements.read(path.read_bytes())
    stored = samples.read(found, images.MAX_PIXELS, images.MIN_SIDE, images._baseline_jpeg)
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        paths = kinds(stored.values, stored.bits, Path(scratch))
        sizes = {kind: path.stat().st_size / 1e6 for kind, path in paths.items()}
        for _ in range(rounds + 1):
            for kind, file in paths.items():
                begin = time.perf_counter()
                statuses = {prediction.status for prediction in classifier.stream([file] * films)}
                seconds[kind].append(time.perf_counter() - begin)
                assert "rejected" not in statuses, (kind, statuses)
    seconds = {kind: taken[1:] for kind, taken in seconds.items()}  # the first starts processes
    return {
        kind: {
            "megabytes": sizes[kind],
            "pictures_per_second": films / statistics.median(taken),
            "to_png": statistics.median(png / own for png, own in zip(seconds["PNG"], taken, strict=True)),
        }
        for kind, taken in seconds.items()
    }


def kinds(values: np.ndarray, bits: int, folder: Path) -> dict[str, Path]:
    """The film as PNG and as DICOM in each transfer syntax, by name."""
    Image.fromarray(values).save(folder / "film.png")
    paths = {"PNG": folder / "film.png", "uncompressed": folder / "film.dcm"}
    paths["uncompressed"].write_bytes(_dicom(values, bits, None, ExplicitVRLittleEndian, folder))
    planes = [imagecodecs.packbits_encode((values >> shift).astype(np.uint8).tobytes()) for shift in (8, 0)]
    planes = [plane + b"\0" * (len(plane) % 2) for plane in planes]
    lossy = {"codecformat": "j2k", "bitspersample": bits, "level": 60}
    frames = {
        "5": struct.pack("<16I", 2, 64, 64 + len(planes[0]), *[0] * 13) + b"".join(planes),
        "4.51": imagecodecs.jpeg8_encode(values >> bits - 12, level=95, bitspersample=12),
        "4.70": imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits),
        "4.80": imagecodecs.jpegls_encode(values),
        "4.90": imagecodecs.jpeg2k_encode(values, codecformat="j2k", bitspersample=bits, reversible=True, level=0),
        "4.91": imagecodecs.jpeg2k_encode(values, **lossy),
        "4.201": imagecodecs.htj2k_encode(values, reversible=True),
    }
    for end, frame in frames.items():
        name, *_ = samples.COMPRESSED[f"1.2.840.10008.1.2.{end}"]
        paths[name] = folder / end
        depth = 12 if end == "4.51" else bits
        paths[name].write_bytes(_dicom(values, depth, frame, UID(f"1.2.840.10008.1.2.{end}"), folder))
    return paths


def _dicom(values: np.ndarray, bits: int, frame: bytes | None, syntax: UID, folder: Path) -> bytes:
    data, data.file_meta = (film := Dataset()), FileMetaDataset()
    film.SOPClassUID, film.SOPInstanceUID, film.Modality = ComputedRadiographyImageStorage, "1.2.3", "CR"
    film.Rows, film.Columns, film.SamplesPerPixel, film.PhotometricInterpretation = *values.shape, 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, bits, bits - 1, 0
    film.WindowCenter, film.WindowWidth = 1 << bits - 1, 1 << bits
    film.PixelData = values.tobytes() if frame is None else encapsulate([frame])
    film["PixelData"].VR = "OW" if frame is None else "OB"
    film.file_meta.TransferSyntaxUID = syntax
    film.file_meta.MediaStorageSOPClassUID, film.file_meta.MediaStorageSOPInstanceUID = film.SOPClassUID, "1.2.3"
    film.save_as(folder / "written", enforce_file_format=True)
    return (folder / "written").read_bytes()


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    found, machine = report["outcomes"], report["machine"]
    lines = [f"{found['files'] - len(found['wrong'])} of {found['files']} files have their expected outcome.", ""]
    lines += ["| rule | films | mean, grey levels | most |", "|---|---|---|---|"]
    lines += [f"| {k} | {v['films']} | {v['mean']:.2f} | {v['most']:.2f} |" for k, v in found["by_rule"].items()]
    ways = report["without_voi"]
    films = list(next(iter(ways.values())))
    names = [Path(film).stem.split("_", 1)[-1] if film.startswith("real/") else Path(film).stem for film in films]
    lines += ["", f"| without its VOI | {' | '.join(names)} |", "|---|" + "---|" * len(films)]
    lines += [f"| {way} | {' | '.join(f'{found[film]:.1f}' for film in films)} |" for way, found in ways.items()]
    lines += ["", "| one film as | MB | pictures/s | of PNG's rate |", "|---|---|---|---|"]
    for kind, row in report["rates"].items():
        lines.append(f"| {kind} | {row['megabytes']:.1f} | {row['pictures_per_second']:.1f} | {row['to_png']:.2f} |")
    return "\n".join([*lines, "", f"{machine['cpu']}, {machine['cpus_usable']} CPUs.", ""])


if __name__ == "__main__":
    main()
