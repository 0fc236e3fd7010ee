"""`edgecxr bench` as it is called: reports, outputs, refusals, each one sentence."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from edgecxr.bench.cold import cold_starts, start
from edgecxr.bench.compare import compare
from edgecxr.bench.sessions import Subject
from edgecxr.bundle import load
from edgecxr.engines.select import Asked, choose
from edgecxr.errors import UnavailableError

Run = Callable[..., subprocess.CompletedProcess[str]]
ONE = ("--engine", "onnxruntime", "--precision", "int8")  # one case of each kind: a fresh process takes a second


def one_sentence(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("edgecxr: ")
    return lines[0]


@pytest.fixture(scope="module")
def measured(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a report as JSON and CSV, of pictures some of which can't be scored."""
    from PIL import Image

    from common import noisy

    folder = tmp_path_factory.mktemp("bench")
    (folder / "in").mkdir()
    for i in range(3):
        Image.fromarray(noisy((96, 80), i)).save(folder / "in" / f"{i}.png")
        (folder / "in" / f"{i}.txt").write_text("no picture")
    command = [sys.executable, "-m", "edgecxr", "bench", folder / "in", "-m", tiny_bundle, "--seconds", 1, *ONE]
    outputs = ["-o", folder / "b.json", "-o", folder / "b.csv", "-o", folder / "b.html"]
    done = subprocess.run(
        list(map(str, [*command, *outputs])), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "where a picture's time goes" in done.stdout
    assert "3 files would be rejected" in done.stderr
    return folder


def test_a_report_says_what_was_measured_and_where(measured: Path) -> None:
    report = json.loads((measured / "b.json").read_text())
    assert (report["schema"], report["kind"], report["golden_inputs"]) == (2, "quick", False)
    assert (report["pictures"]["count"], report["pictures"]["left_out"]) == (3, 3)
    assert report["pictures"]["median_megapixels"] == pytest.approx(96 * 80 / 1e6)
    assert {(r["what"], r["batch_size"]) for r in report["results"]} == {
        ("model", 1), ("model", 2), ("model", 4), ("model", 8), ("picture", 1), ("folder", 1),
    }  # fmt: skip
    for row in report["results"]:
        given = [row[p] for p in ("p50_ms", "p90_ms", "p99_ms") if row[p] is not None]
        assert given == sorted(given)
        assert (row["p99_ms"] is None) == (row["what"] == "folder" or row["samples"] < 100)
        assert 0 < row["throughput_low"] <= row["throughput"] <= row["throughput_high"]
        assert len(row["rounds"]["throughput"]) == report["rounds"] >= 3
        assert (row["stages_ms"] is not None) == (row["what"] == "picture")
    machine = report["machine"]
    assert machine["cpu"]
    assert machine["meanwhile"]["seconds"] > 0
    assert len(machine["affinity"]) >= 1


def test_a_fresh_process_is_timed_and_weighed(measured: Path) -> None:
    (start,) = json.loads((measured / "b.json").read_text())["cold_start"]
    assert start["engine"] == "onnxruntime"
    assert 0 < start["seconds_low"] <= start["seconds"] <= start["seconds_high"]
    # An interpreter with numpy, Pillow and onnxruntime takes tens of MB, and the tiny network nothing.
    assert 30 < start["peak_megabytes"] < 500


def test_the_page_names_no_file(measured: Path) -> None:
    html = (measured / "b.html").read_text()
    assert "Quick measurement" in html
    assert "data:image/png;base64," in html
    assert str(measured) not in html + (measured / "b.json").read_text() + (measured / "b.csv").read_text()


def test_csv_has_the_columns_of_timm(measured: Path) -> None:
    rows = list(csv.DictReader((measured / "b.csv").read_text().splitlines()))
    report = json.loads((measured / "b.json").read_text())
    assert list(rows[0])[:5] == [
        "model", "infer_samples_per_sec", "infer_step_time", "infer_batch_size", "infer_img_size",
    ]  # fmt: skip
    assert len(rows) == len(report["results"])
    for row, result in zip(rows, report["results"], strict=True):
        assert row["infer_img_size"] == "64"
        assert float(row["infer_samples_per_sec"]) == pytest.approx(result["throughput"], abs=0.01)
        # timm: milliseconds a batch
        step = 1e3 * int(row["infer_batch_size"]) / result["throughput"]
        assert float(row["infer_step_time"]) == pytest.approx(step, abs=1e-3)


def test_a_report_is_compared_with_an_earlier_one(
    edgecxr: Run, measured: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = edgecxr(
        "bench", measured / "in", "-m", tiny_bundle, "--seconds", 1, "-b", 1, *ONE, "--json", "--compare",
        measured / "b.json", timeout=300,
    )  # fmt: skip
    comparison = json.loads(done.stdout)["comparison"]
    cases = {(row["case"]["what"], row["figure"]) for row in comparison["changes"]}
    assert cases == {
        ("model", "p50_ms"), ("picture", "p50_ms"), ("folder", "pictures/s"), ("cold start", "first record, s"),
    }  # fmt: skip
    assert len(comparison["only_before"]) == 3  # batches of 2, 4 and 8
    assert (comparison["machine_differs"], comparison["bundle_differs"]) == ([], False)


@pytest.mark.slow
def test_several_models_take_turns_in_one_table(
    edgecxr: Run, measured: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    other = tiny.write_bundle(tmp_path / "other.edgecxr", abstain_at=1.0, version="2")
    files = [tmp_path / name for name in ("b.json", "b.csv", "b.html")]
    written = [argument for file in files for argument in ("-o", file)]
    models = ("-m", tiny_bundle, "-m", other)
    done = edgecxr("bench", measured / "in", *models, "--seconds", 1, *ONE, *written)
    assert done.returncode == 0, done.stderr
    report = json.loads(files[0].read_text())
    names = [each["model"] for each in report["models"]]
    assert names == ["tiny 1", "tiny 2"]  # their names alone are the same
    alone = json.loads((measured / "b.json").read_text())
    for name in names:
        for part in ("results", "cold_start"):
            assert sum(row["model"] == name for row in report[part]) == len(alone[part])
            assert all("model" not in row for row in alone[part])
    assert {row["model"] for row in csv.DictReader(files[1].read_text().splitlines())} == set(names)
    for text in (done.stdout, files[2].read_text()):
        assert "tiny 1 and tiny 2" in text
    # What one report has of two models, another has too; one of a single model has none of their rows.
    later = edgecxr("bench", measured / "in", *models, "--seconds", 1, *ONE, "--compare", files[0], "--json")
    comparison = json.loads(later.stdout)["comparison"]
    assert len(comparison["changes"]) == len(report["results"]) + 2
    assert {row["case"]["model"] for row in comparison["changes"]} == set(names)
    assert not comparison["bundle_differs"]
    assert compare(alone, report)["changes"] == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--sustained", 1), "--mlperf and --sustained measure one model; give -m once"),
        ((), "the same model is given twice: it would be measured against itself"),
    ],
)
def test_models_that_cannot_be_measured_beside_each_other(
    edgecxr: Run, tiny_bundle: Path, options: tuple[object, ...], sentence: str
) -> None:
    assert sentence in one_sentence(edgecxr("bench", "-m", tiny_bundle, "-m", tiny_bundle, *options), 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "can't be read"),
        ("{", "isn't valid JSON"),
        ("[" * 100_000, "isn't valid JSON"),
        ("[]", "expected a report that edgecxr bench wrote"),
        ('{"schema": 1}', "expected a report that edgecxr bench wrote"),
        ('{"schema": 1, "kind": "quick"}', "the report's schema is 1"),
        ('{"schema": 3, "kind": "quick"}', "the report's schema is 3"),
        ('{"schema": 2, "kind": "sustained"}', "got one of kind sustained"),
        ('{"schema": 2, "kind": "quick", "results": []}', "lacks or garbles a field"),
    ],
)
def test_a_report_that_cant_be_compared_is_one_sentence_before_anything_is_measured(
    edgecxr: Run, tiny_bundle: Path, tmp_path: Path, content: str | None, says: str
) -> None:
    earlier = tmp_path / "earlier.json"
    if content is not None:
        earlier.write_text(content)
    target = tmp_path / "new.json"
    done = edgecxr("bench", "-m", tiny_bundle, "--compare", earlier, "-o", target)
    assert says in one_sentence(done, 2)
    assert not target.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX systems only")
def test_a_pipe_is_no_report(edgecxr: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    done = edgecxr("bench", "-m", tiny_bundle, "--compare", tmp_path / "pipe.json", timeout=60)
    assert "the report isn't a file" in one_sentence(done, 2)


def test_a_file_that_cant_be_written_loses_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    """What was measured is on the terminal and in the other files; a file that was there stays."""
    for name in ("a.json", "b.csv"):
        (tmp_path / name).write_text("mine")
    arguments = [
        "bench", "-m", tiny_bundle, "--seconds", 1, "-b", 1, *ONE, "--overwrite",
        "-o", tmp_path / "a.json", "-o", tmp_path / "b.csv", "-o", tmp_path / "c.json",
    ]  # fmt: skip
    code = (
        "import os, sys\nfrom edgecxr.system import storage\n"
        "real = storage.take_the_place\n"
        "def refused(scratch, path):\n"
        "    if path.name in ('a.json', 'b.csv'): raise PermissionError(13, 'Permission denied')\n"
        "    real(scratch, path)\n"
        f"storage.take_the_place, sys.argv = refused, {['edgecxr', *map(str, arguments)]!r}\n"
        "from edgecxr.__main__ import main\nmain()\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert "where a picture's time goes" in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgecxr: the report can't be written")
    assert "a.json" in last
    assert "b.csv" in last
    assert json.loads((tmp_path / "c.json").read_text())["kind"] == "quick"
    assert {(tmp_path / name).read_text() for name in ("a.json", "b.csv")} == {"mine"}


def on_full_disk(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line where reports don't fit on the disk, which is seen when they are written."""
    pytest.importorskip("resource")
    script = (
        "import resource, sys\nfrom edgecxr.cli import bench as cli_bench\nreal = cli_bench._write\n"
        "def full(*rest):\n    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n    real(*rest)\n"
        "cli_bench._write = full\n"
        f"sys.argv = {['edgecxr', *map(str, arguments)]!r}\nfrom edgecxr.__main__ import main\nmain()\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_files_and_shows_the_result(tiny_bundle: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.json", "b.csv", "c.html")]
    for file in files:
        file.write_text("mine")
    outputs = [part for file in files for part in ("-o", file)]
    done = on_full_disk("bench", "-m", tiny_bundle, "--seconds", 1, "-b", 1, *ONE, "--overwrite", "--json", *outputs)
    assert done.returncode == 70
    assert json.loads(done.stdout)["kind"] == "quick"
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("edgecxr: the report can't be written (File too large)")
    assert [str(file) in last for file in files] == [True] * 3
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == dict.fromkeys(
        ("a.json", "b.csv", "c.html"), "mine"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_terminal_that_takes_nothing_leaves_the_files(tiny_bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "edgecxr", "bench", "-m", tiny_bundle, "--seconds", 1, "-b", 1, *ONE]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            list(map(str, [*command, "-o", tmp_path / "a.json"])), stdout=full, check=False, timeout=300
        )
    assert done.returncode != 0
    assert json.loads((tmp_path / "a.json").read_text())["kind"] == "quick"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_folder_that_takes_no_file_is_noticed_before_anything_is_measured(edgecxr: Run, tmp_path: Path) -> None:
    """Even before the bundle is looked for, which isn't there."""
    done = edgecxr("bench", "-m", tmp_path / "absent", "-o", "/proc/ml.json", timeout=60)
    assert "the output can't be written" in one_sentence(done, 2)


def test_a_process_that_refuses_its_options_is_quoted_without_the_frame() -> None:
    with pytest.raises(UnavailableError, match=r"no record: No such option: --unheard-of$"):
        start([sys.executable, "-m", "edgecxr", "infer", "--unheard-of"])


def test_a_name_may_begin_with_a_dash(
    tiny_bundle: Path, picture: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = picture("--overwrite.png", seed=1)
    monkeypatch.chdir(file.parent)
    bundle = load(tiny_bundle)
    (row,) = cold_starts([Subject(bundle, choose(bundle, Asked(engine="onnxruntime")))], [Path(file.name)], 0.1)
    assert row["pictures"] == 1
    assert row["seconds"] > 0


def test_bad_calls_are_one_sentence(edgecxr: Run, tiny_bundle: Path, measured: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.png").write_text("no picture")
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    calls: list[tuple[list[object], str]] = [
        ([tmp_path / "absent"], "no such file or folder"),
        ([tmp_path / "empty"], "no files to score"),
        ([tmp_path / "texts"], "can be scored, there is nothing to measure"),
        (["-o", kept], "the output exists"),
        (["-o", tmp_path / "b.txt"], "ends in .json, .csv, .html"),
        (["-o", tmp_path / "absent" / "b.json"], "no such folder"),
        (["--mlperf", "single", "--sustained", 1], "give one of them"),
        (["--sustained", 1, "--seconds", 5], "leave --seconds out"),
        (["--sustained", 1, "-o", tmp_path / "b.csv"], "timm's columns are for the default measurement"),
        (["--mlperf", "multi", "--compare", measured / "b.json"], "--compare is for the default measurement"),
    ]
    for arguments, says in calls:
        assert says in one_sentence(edgecxr("bench", *arguments, "-m", tiny_bundle), 2), arguments
    assert kept.read_text() == "mine"


def without(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line where a module can't be imported."""
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from edgecxr.cli import main\n"
        f"sys.argv = {['edgecxr', *map(str, arguments)]!r}\n"
        "main()\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_a_page_without_its_extra_is_one_sentence(tiny_bundle: Path, tmp_path: Path, module: str) -> None:
    done = without(module, "bench", "-m", tiny_bundle, "-o", tmp_path / "b.html")
    assert "pip install 'edgecxr[cpu,eval]'" in one_sentence(done, 4)


def test_mlperf_without_its_extra_is_one_sentence(tiny_bundle: Path) -> None:
    done = without("mlperf_loadgen", "bench", "-m", tiny_bundle, "--mlperf", "single")
    assert "pip install 'edgecxr[loadgen]'" in one_sentence(done, 4)
