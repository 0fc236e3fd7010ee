"""A disk that is full, fails or may not be written: not exit 0, one sentence, and what was there stays."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kills.mounts import mounting
from kills.runs import Task, answers, pictures, whole

OLD = b"precious\n"


@pytest.fixture
def task(tiny_bundle: Path, tmp_path: Path) -> Task:
    return Task(pictures(tmp_path / "in", 60), tiny_bundle, tmp_path / "out.jsonl")


def one_sentence(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("edgecxr: ")
    return lines[0]


def limited(task: Task, size: int, *options: str) -> subprocess.CompletedProcess[str]:
    """A run that may write no file beyond `size` bytes."""
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return task.run(*options, preexec_fn=limit)


@pytest.mark.parametrize(
    "name",
    ["out.jsonl", *(pytest.param(name, marks=pytest.mark.slow) for name in ("out.csv", "over.jsonl", "over.csv"))],
)
def test_where_no_more_can_be_written_the_records_so_far_stay_and_resume_goes_on(task: Task, name: str) -> None:
    task = Task(task.folder, task.bundle, task.output.with_name(name))
    if name.startswith("over"):
        task.output.write_bytes(OLD)
    done = limited(task, 20_000, *(["--overwrite"] if name.startswith("over") else []))
    assert done.returncode == 70
    assert "records can't be kept any more (File too large)" in one_sentence(done.stderr)
    journal = task.output if name == "out.jsonl" else task.part
    kept = whole(journal)
    assert 10 < len(kept) < 60
    assert b"".join(kept) == journal.read_bytes()  # no torn line
    if name.startswith("over"):
        assert task.output.read_bytes() == OLD
    assert task.run("--resume").returncode == 1
    assert not task.part.exists()
    straight = Task(task.folder, task.bundle, task.output.with_name("straight.jsonl"))
    assert straight.run().returncode == 1
    if name.endswith(".jsonl"):
        assert answers(task.output) == answers(straight.output)
    else:
        assert task.output.read_text().count("\n") == 63


def test_a_csv_that_does_not_fit_leaves_its_journal(task: Task) -> None:
    """The journal is whole, and the CSV beside it is what the disk has no room for."""
    assert task.run().returncode == 1
    size = task.output.stat().st_size
    csv = Task(task.folder, task.bundle, task.output.with_name("out.csv"))
    csv.output.write_bytes(OLD)
    code = (
        "import sys, resource\nfrom edgecxr.records import output\n"
        "real = output.write_csv\n"
        "def full(*rest):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    return real(*rest)\n"
        f"output.write_csv = full\nsys.argv = {csv.command('--overwrite')[2:]!r}\n"
        "from edgecxr.__main__ import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 70
    assert "its records are kept, and --resume goes on" in one_sentence(done.stderr)
    assert csv.output.read_bytes() == OLD
    assert csv.part.stat().st_size == size
    assert not list(csv.output.parent.glob("*.tmp"))


def in_namespace(script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where it may mount; skips where that can't be had."""
    return subprocess.run([*mounting(), "sh", "-c", script], capture_output=True, text=True, check=False)


def shell(task: Task, *options: str) -> str:
    return " ".join(f"'{part}'" for part in task.command(*options))


def test_a_full_disk(task: Task, tmp_path: Path) -> None:
    small, copy = tmp_path / "small", tmp_path / "copy"
    small.mkdir()
    full = Task(task.folder, task.bundle, small / "out.jsonl")
    script = (
        f"mount -t tmpfs -o size=32k none {small}; echo precious > {full.output}; "
        f"{shell(full, '--overwrite')}; echo code $?; cp -r {small} {copy}"
    )
    done = in_namespace(script)
    assert "code 70" in done.stdout, done.stderr
    assert "No space left on device" in one_sentence(done.stderr)
    assert (copy / "out.jsonl").read_bytes() == OLD
    left = (copy / "out.jsonl.part").read_bytes()
    assert left.count(b"\n") > 10
    assert left.endswith(b"\n")
    assert all(json.loads(line) for line in left.splitlines())


def test_a_folder_that_may_not_be_written(task: Task, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    closed = Task(task.folder, task.bundle, small / "out.csv")
    script = (
        f"mount -t tmpfs none {small}; echo precious > {closed.output}; mount -o remount,ro {small}; "
        f"{shell(closed, '--overwrite')}; echo code $?; cat {closed.output}; ls {small}"
    )
    done = in_namespace(script)
    assert "Read-only file system" in one_sentence(done.stderr)
    assert done.stdout.split() == ["code", "2", "precious", "out.csv"]


def test_a_disk_that_fails(task: Task) -> None:
    """Every sync after the first records says EIO, as a failing card does."""
    task.output.write_bytes(OLD)
    code = (
        "import errno, os, sys\nreal = os.fsync\n"
        "def fsync(file):\n"
        "    if os.fstat(file).st_size and not os.path.isdir(f'/proc/self/fd/{file}'):\n"
        "        raise OSError(errno.EIO, os.strerror(errno.EIO))\n"
        "    real(file)\n"
        f"os.fsync = fsync\nsys.argv = {task.command('--overwrite')[2:]!r}\n"
        "from edgecxr.__main__ import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 70
    assert "Input/output error" in one_sentence(done.stderr)
    assert task.output.read_bytes() == OLD


def test_stdout_that_takes_no_more(task: Task) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = [*task.command()[: task.command().index("-o")], "-o", "-", "-q"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    assert done.returncode == 70
    assert "can't be written to stdout (No space left on device)" in one_sentence(done.stderr)


@pytest.mark.long
def test_the_system_sees_a_sync_at_least_every_second(tiny_bundle: Path, tmp_path: Path) -> None:
    """What a power cut can take is what was written after the last fsync, as strace saw both."""
    if not shutil.which("strace") or os.name != "posix":
        pytest.skip("no strace here")
    task = Task(pictures(tmp_path / "in", 12_000), tiny_bundle, tmp_path / "out.jsonl")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-ttt", "-y", "-e", "trace=write,fsync", "-o", str(trace), *task.command("-j", "1")]
    if subprocess.run(["strace", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("strace may not trace here")
    subprocess.run(command, check=False, capture_output=True, timeout=500)
    waiting: list[float] = []  # when each record was written that isn't known to be on the disk
    longest, written, under_way = 0.0, 0, {}
    for line in trace.read_text(errors="replace").splitlines():
        thread, when, call = line.split(maxsplit=2)
        if call.startswith("write(") and "out.jsonl>" in call:
            written += 1
            waiting.append(float(when))
        elif call.startswith("fsync(") and "out.jsonl>" in call:
            under_way[thread] = len(waiting)  # what this one puts on the disk, once it has come back
        if thread in under_way and "fsync" in call and not call.endswith("<unfinished ...>"):
            count = under_way.pop(thread)
            longest = max([longest, *(float(when) - then for then in waiting[:1] if count)])
            del waiting[:count]
    assert written == 12_002
    assert not waiting  # the last is synced as well
    print(f"longest time from a record to the end of the fsync behind it: {longest:.3f} s")
    assert longest <= 1.0
