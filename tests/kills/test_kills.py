"""SIGKILL at any moment: no record is lost, none is there twice, and the resumed run ends as an uninterrupted one."""

import csv
import json
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from kills.runs import Task, answers, pictures, whole

FILES = 400
TRIED_AGAIN = ("-empty.png", "-gone.png")  # nothing could be read: each resumed run makes a new record of these


@pytest.fixture(scope="module")
def straight(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """An uninterrupted run."""
    top = tmp_path_factory.mktemp("kills")
    task = Task(pictures(top / "in", FILES), tiny_bundle, top / "straight.jsonl")
    done = task.run()
    assert done.returncode == 1, done.stderr
    assert len(whole(task.output)) == FILES + 2
    return task


def kill_somewhere(task: Task, rng: random.Random, journal: Path, *options: str) -> list[bytes] | None:
    """Start a run, kill it at a random moment and return the records that it left; None where it had ended."""
    process = task.start(*options)
    at_first, more = len(whole(journal)), rng.choice([0, 0, 1, rng.randint(1, 90), rng.randint(1, 90)])
    pause = rng.random() * (0.8 if more == 0 else 0.01)
    deadline = time.monotonic() + 60
    while len(whole(journal)) < at_first + more and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(pause)
    seen = whole(journal)
    process.send_signal(signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    if process.returncode != -signal.SIGKILL:
        assert process.returncode == 1, stderr
        return None
    left = whole(journal)
    if seen and not journal.exists():
        return None  # killed once the output stood in its place
    assert not lost(seen, left), "a record that a reader had seen is lost"
    return left


def lost(before: list[bytes], after: list[bytes]) -> set[bytes]:
    """Records that are no more; those that are tried again give way to new ones once a run has ended."""
    gone = set(before) - set(after)
    return {line for line in gone if not json.loads(line)["path"].endswith(TRIED_AGAIN)}


def check_between(journal: Path) -> None:
    """What a killed run left: each input once at most, but for what is tried again."""
    names = Counter(str(record["path"]) for record in answers(journal))
    twice = [name for name, count in names.items() if count > 1 and not name.endswith(TRIED_AGAIN)]
    assert not twice


def kill_and_resume(straight: Task, output: Path, kills: int, seed: int, old: bytes | None) -> int:
    """Kill runs into `output` until `kills` were, resuming each; returns how many outputs were finished between."""
    task, rng, killed, ended = Task(straight.folder, straight.bundle, output), random.Random(seed), 0, 0
    apart = output.suffix == ".csv" or old is not None
    journal = task.part if apart else output
    while killed < kills:
        if old is not None:
            output.write_bytes(old)
        options = ["--overwrite"] if old is not None else []
        lines: list[bytes] = []
        while True:
            left = kill_somewhere(task, rng, journal, *options) if killed < kills else None
            if left is None:
                if killed >= kills:
                    assert task.run("--resume").returncode == 1
                break
            killed += 1
            assert not lost(lines, left) or options == ["--overwrite"]
            lines = left
            check_between(journal)
            if old is not None:
                assert output.read_bytes() == old  # until a whole one takes its place
            elif apart:
                assert not output.exists()
            # A run that was killed before it had a journal is begun again.
            options = ["--resume"] if journal.exists() else options
        ended += 1
        assert not task.part.exists()
        check_end(straight, output)
        output.unlink()
    return ended


def check_end(straight: Task, output: Path) -> None:
    expected = answers(straight.output)
    if output.suffix != ".csv":
        assert answers(output) == expected  # and in the order of the inputs
        return
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [record["path"] for record in expected]
    for column in ("status", "sha256", "logit_covid"):
        assert [row[column] for row in rows] == ["" if r[column] is None else str(r[column]) for r in expected]


def test_five_kills(straight: Task, tmp_path: Path) -> None:
    assert kill_and_resume(straight, tmp_path / "out.jsonl", kills=5, seed=1, old=None) >= 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "old", "kills"), [("out.jsonl", None, 40), ("out.csv", None, 30), ("over.jsonl", b"precious\n", 30)]
)
def test_a_hundred_kills_in_all(straight: Task, tmp_path: Path, name: str, old: bytes | None, kills: int) -> None:
    assert kill_and_resume(straight, tmp_path / name, kills, seed=len(name), old=old) >= 1
