"""The command line: every verb, every exit code, one sentence for bad input and never a traceback."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import tiny
from common import ROOT
from edgecxr.bundle import DEFAULT, NAMED

Run = Callable[..., subprocess.CompletedProcess[str]]


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def one_sentence(result: subprocess.CompletedProcess[str], code: int) -> str:
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("edgecxr: ")
    return lines[0]


def test_infer_writes_a_record_for_each_file_and_a_summary(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    for i in range(5):
        picture(f"in/{i}.png", seed=i)
    result = edgecxr("infer", tmp_path / "in", "-m", tiny_bundle, "-o", tmp_path / "out.jsonl")
    assert result.returncode == 0, result.stderr
    assert [Path(str(r["path"])).name for r in records(tmp_path / "out.jsonl")] == [f"{i}.png" for i in range(5)]
    assert "5 pictures in" in result.stderr
    assert "5 scored" in result.stderr
    assert "onnxruntime CPUExecutionProvider" in result.stderr
    assert result.stdout == ""


def test_infer_without_output_prints_a_table(edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path]) -> None:
    path = picture()
    result = edgecxr("infer", path, "-m", tiny_bundle)
    assert result.returncode == 0
    header, row = result.stdout.strip().splitlines()
    assert header.split() == ["picture", "answer", "p(covid)", "p(normal)", "p(viral_pneumonia)"]
    assert row.split()[0] == str(path)
    assert sum(map(float, row.split()[2:])) == pytest.approx(1, abs=0.002)


def test_a_bad_picture_is_one_rejected_record_and_exit_1(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    good = picture("in/b.png")
    contents = {
        "a-empty.png": b"",
        "c-cut.png": good.read_bytes()[:300],
        "d-text.jpg": b"hello",
        "e-noise": os.urandom(500),
    }
    for name, data in contents.items():
        (tmp_path / "in" / name).write_bytes(data)
    result = edgecxr("infer", tmp_path / "in", "-m", tiny_bundle, "-o", tmp_path / "out.jsonl")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    rows = records(tmp_path / "out.jsonl")
    assert [r["status"] for r in rows] == ["rejected", "scored", "rejected", "rejected", "rejected"]
    assert [r["error"]["code"] for r in rows if r["error"]] == ["empty", "corrupt", "not_an_image", "not_an_image"]  # type: ignore[index]


def test_csv_json_summary_limit_and_fail_fast(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    for i in range(6):
        picture(f"in/{i}.png", seed=i)
    (tmp_path / "in" / "2-bad.png").write_bytes(b"x")
    common = ("infer", tmp_path / "in", "-m", tiny_bundle)
    result = edgecxr(*common, "-o", tmp_path / "out.csv", "--limit", 2, "--json", "-q")
    assert result.returncode == 0
    assert result.stderr == ""
    assert json.loads(result.stdout)["records"] == 2
    with (tmp_path / "out.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2
    result = edgecxr(*common, "-o", "-", "--fail-fast")
    assert result.returncode == 1
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["scored"] * 2 + ["rejected"]


def test_an_output_that_exists_is_not_overwritten_unasked(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    path, target = picture(), tmp_path / "out.jsonl"
    target.write_text("precious\n")
    assert "--overwrite" in one_sentence(edgecxr("infer", path, "-m", tiny_bundle, "-o", target), 2)
    assert target.read_text() == "precious\n"
    assert edgecxr("infer", path, "-m", tiny_bundle, "-o", target, "--overwrite").returncode == 0
    assert len(records(target)) == 1


def test_bad_places_are_one_sentence_and_exit_2(edgecxr: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no such file or folder" in one_sentence(edgecxr("infer", tmp_path / "absent"), 2)
    assert "no files to score" in one_sentence(edgecxr("infer", tmp_path / "empty"), 2)
    assert "ends in" in one_sentence(edgecxr("infer", tmp_path / "empty", "-o", tmp_path / "x.xlsx"), 2)
    assert "COLUMN=VALUE" in one_sentence(edgecxr("eval", tiny_bundle, tmp_path, "--where", "seed"), 2)


def test_a_damaged_bundle_is_one_sentence_and_exit_3(
    edgecxr: Run, picture: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny.write_bundle(tmp_path / "t.edgecxr")
    path = picture()
    model = bytearray((folder / "model.int8.onnx").read_bytes())
    model[100] ^= 1
    (folder / "model.int8.onnx").write_bytes(model)
    target = tmp_path / "out.jsonl"
    assert "listed hash" in one_sentence(edgecxr("infer", path, "-m", folder, "-o", target), 3)
    assert not target.exists()
    assert "listed hash" in one_sentence(edgecxr("verify", folder), 3)
    assert "doesn't exist" in one_sentence(edgecxr("info", tmp_path / "absent.edgecxr"), 3)


def test_what_is_not_there_is_one_sentence_and_exit_4(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path]
) -> None:
    path = picture()
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        assert "cuda was asked for" in one_sentence(edgecxr("infer", path, "-m", tiny_bundle, "--device", "cuda"), 4)
    assert "no fp16" in one_sentence(edgecxr("infer", path, "-m", tiny_bundle, "--precision", "fp16"), 4)


def test_names_cannot_steer_the_terminal(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    picture("in/evil\x1b[2J\nname [bold].png")
    (tmp_path / "in" / os.fsdecode(b"latin\xe9.png")).write_bytes(b"x")
    for arguments in ([], ["-o", tmp_path / "out.jsonl"]):
        result = edgecxr("infer", tmp_path / "in", "-m", tiny_bundle, *arguments)
        assert result.returncode == 1, result.stderr
        assert "\x1b[2J" not in result.stdout + result.stderr
    names = [str(r["path"]) for r in records(tmp_path / "out.jsonl")]
    assert names[0].endswith("evil\x1b[2J\nname [bold].png")
    assert os.fsencode(names[1]).endswith(b"latin\xe9.png")


def test_the_output_among_the_pictures_is_no_input(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    target = picture("in/a.png").parent / "out.jsonl"
    for _ in range(2):
        result = edgecxr("infer", tmp_path / "in", "-m", tiny_bundle, "-o", target, "--overwrite")
        assert result.returncode == 0, result.stderr
        assert len(records(target)) == 1


def test_a_bundle_that_does_not_fit_costs_no_earlier_output(
    edgecxr: Run, picture: Callable[..., Path], tmp_path: Path
) -> None:
    folder, target, path = tmp_path / "t.edgecxr", tmp_path / "out.jsonl", picture()
    tiny.write_bundle(folder, labels=["a", "b", "c", "d"])
    target.write_text("precious\n")
    line = one_sentence(edgecxr("infer", path, "-m", folder, "-o", target, "--overwrite"), 3)
    assert "doesn't fit the bundle" in line
    assert target.read_text() == "precious\n"


def test_a_reader_that_leaves_is_no_error_of_a_picture(
    tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    path = picture("in/0.png")
    for i in range(1, 400):
        (path.parent / f"{i:04}.png").symlink_to(path)
    command = (
        f"{sys.executable} -m edgecxr infer {path.parent} -m {tiny_bundle} -o - | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines()[-1] == "141"
    assert "Traceback" not in done.stderr


def test_an_encoding_that_lacks_a_sign_is_no_crash(edgecxr: Run, tiny_bundle: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for command in (["verify", tiny_bundle], ["doctor"], ["info", tiny_bundle]):
        assert edgecxr(*command, env=environment).returncode == 0


def test_verify_says_whether_this_device_still_answers_right(edgecxr: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    result = edgecxr("verify", tiny_bundle)
    assert result.returncode == 0, result.stderr
    assert "every hash is right" in result.stdout
    checks = json.loads(edgecxr("verify", tiny_bundle, "--json").stdout)
    assert checks["passed"] is True
    by_engine = {(c["artifact"], c["engine"]) for c in checks["golden"]}
    assert {(f"model.{p}.onnx", "onnxruntime") for p in ("fp32", "int8")} <= by_engine
    assert len(by_engine) == len(checks["golden"])


def test_info_doctor_and_version(edgecxr: Run, tiny_bundle: Path) -> None:
    result = edgecxr("info", tiny_bundle)
    assert result.returncode == 0
    assert "covid, normal, viral_pneumonia" in result.stdout
    assert json.loads(edgecxr("info", tiny_bundle, "--json").stdout)["name"] == "tiny"
    doctor = edgecxr("doctor", "--json")
    assert json.loads(doctor.stdout)["machine"]["cpus_usable"] >= 1
    assert re.fullmatch(r"edgecxr \d+\.\d+\.\d+\S*\n", edgecxr("--version").stdout)


@pytest.mark.parametrize("command", ["infer", "bench", "verify", "info"])
def test_help_names_the_default_model(edgecxr: Run, command: str) -> None:
    assert f"(default: {DEFAULT})" in " ".join(edgecxr(command, "--help").stdout.replace("│", " ").split())


def test_info_says_how_an_embedded_bundle_is_called(
    edgecxr: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NAMED, "full", tiny_bundle)
    assert "embedded as edge, the default; also here: full" in " ".join(edgecxr("info").stdout.split())
    assert "embedded as full; also here: edge" in " ".join(edgecxr("info", "full").stdout.split())
    assert "embedded as" not in edgecxr("info", tiny.write_bundle(tmp_path / "another.edgecxr")).stdout


def test_eval_counts_what_the_labels_say(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    for label in ("normal", "covid"):
        for i in range(3):
            picture(f"data/{label}/{i}.png", seed=i)  # the tiny network gives both folders the same answers
    report = json.loads(edgecxr("eval", tiny_bundle, tmp_path / "data", "--json").stdout)
    assert report["accuracy"]["total"] == 6
    answers = [sum(column) for column in zip(*report["confusion"], strict=True)]
    assert report["confusion"][0] == report["confusion"][1]
    assert sum(answers) == 6
    picture("data/lung_opacity/0.png")
    assert "doesn't know the label lung_opacity" in one_sentence(edgecxr("eval", tiny_bundle, tmp_path / "data"), 2)
    assert edgecxr("eval", tiny_bundle, tmp_path / "data", "--ignore-label", "lung_opacity").returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_drains_the_batch_in_hand(
    tiny_bundle: Path, picture: Callable[..., Path], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    path = picture("in/0.png", size=(1500, 1500))
    for i in range(1, 3000):
        (path.parent / f"{i:04}.png").symlink_to(path)
    target = tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "edgecxr", "infer", path.parent, "-m", tiny_bundle, "-o", target, "--json"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (target.exists() and target.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    summary = json.loads(stdout)
    assert summary["interrupted"] is True
    assert 0 < summary["records"] == len(records(target)) < 3000


@pytest.mark.parametrize("arguments", [("info",), ("info", "--json"), ("doctor",), ("verify",)])
def test_a_reader_who_is_gone_before_the_first_line_is_the_shells_exit_code(
    tiny_bundle: Path, arguments: tuple[str, ...]
) -> None:
    read, write = os.pipe()
    os.close(read)
    command, *options = arguments
    given = [] if command == "doctor" else [str(tiny_bundle)]
    done = subprocess.run(
        [sys.executable, "-m", "edgecxr", command, *given, *options],
        check=False, stdout=write, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 141, done.stderr
    assert "Traceback" not in done.stderr


def test_records_go_to_stdout_also_where_a_terminal_shows_progress(
    edgecxr: Run, tiny_bundle: Path, picture: Callable[..., Path]
) -> None:
    folder = picture("in/0.png").parent
    # As rich has it, a stream is a terminal then: the bar is drawn on stderr.
    environment = {**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}
    done = edgecxr("infer", folder, "-m", tiny_bundle, "-o", "-", env=environment)
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["scored"]
    assert "scoring" in done.stderr
    assert "schema" not in done.stderr


def test_every_command_has_help_and_stands_in_the_readme(edgecxr: Run) -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^│ (\w+) ", edgecxr("--help").stdout, flags=re.MULTILINE)
    assert {"infer", "verify", "info", "doctor", "bench", "eval", "train", "export"} <= set(commands)
    for command in commands:
        result = edgecxr(command, "--help")
        assert result.returncode == 0
        assert f"edgecxr {command}" in readme, command


def test_every_verb_of_data_has_help_and_stands_in_the_readme(edgecxr: Run) -> None:
    readme = (ROOT / "README.md").read_text()
    verbs = re.findall(r"^│ (\w+) ", edgecxr("data", "--help").stdout, flags=re.MULTILINE)
    assert set(verbs) == {"kaggle", "import", "show"}
    for verb in verbs:
        assert edgecxr("data", verb, "--help").returncode == 0
        assert f"edgecxr data {verb}" in readme, verb


def test_every_command_offers_the_same_engines_devices_and_precisions() -> None:
    from edgecxr.cli import bench as cli_bench
    from edgecxr.cli import device
    from edgecxr.cli import eval as cli_eval
    from edgecxr.cli import infer as cli_infer
    from edgecxr.engines import select

    offered = {"engine": select.ENGINES, "device": select.DEVICES, "precision": select.PRECISIONS}
    for command in (cli_infer.infer, device.verify, cli_bench.bench, cli_eval.evaluate):
        hints = get_type_hints(command)
        assert {name: get_args(hints[name]) for name in offered} == offered, command


def test_an_unexpected_error_is_one_sentence_and_exit_70(edgecxr: Run, tmp_path: Path) -> None:
    code = (
        "import sys, edgecxr.cli, edgecxr.device.doctor\n"
        "def broken(): raise ZeroDivisionError('by design')\n"
        "edgecxr.device.doctor.look = broken\n"
        "sys.argv = ['edgecxr', 'doctor']\n"
        "edgecxr.cli.main()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT)
    assert "unexpected ZeroDivisionError: by design" in one_sentence(result, 70)
