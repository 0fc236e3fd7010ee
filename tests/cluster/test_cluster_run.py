"""`infer --ray` without Ray: its workers are called in this process, and everything around them is what it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from edgecxr.cluster import listing, pool
from edgecxr.cluster.output import JOURNAL, Part
from edgecxr.cluster.worker import Parcel, Settings, Worker
from edgecxr.errors import UnavailableError
from records_of import rows, same

pytest.importorskip("pyarrow")

Edgecxr = Callable[..., subprocess.CompletedProcess[str]]


class Here:
    """A pool of workers in this process, which gives parts in the order of `shuffled`, and may break off."""

    broken_after: int | None = None
    signal_after: int | None = None
    scored: ClassVar[list[int]] = []

    def __init__(
        self, settings: Settings, name: str, digest: str, files: Mapping[str, bytes], workers: int, *, gpu: bool
    ) -> None:
        parcel = Parcel(name, digest, {file: partial(bytes, data) for file, data in files.items()})
        self._worker = Worker(settings, parcel)

    def results(self, parts: Iterable[tuple[int, bytes]], size: int) -> Iterator[tuple[int, Part]]:
        for done, (number, lines) in enumerate(reversed(list(parts))):  # as they are finished: in no order
            if done == self.broken_after:
                raise UnavailableError("the cluster failed")
            if done == self.signal_after:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self.scored.append(number)
            yield number, self._worker.score(number, size, lines)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> type[Here]:
    @contextmanager
    def joined(address: str) -> Iterator[pool.Size]:
        yield pool.Size(2, 0)

    class Fresh(Here):
        scored: ClassVar[list[int]] = []

    monkeypatch.setattr(pool, "joined", joined)
    monkeypatch.setattr(pool, "Pool", Fresh)
    return Fresh


@pytest.fixture
def films(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """40 files, which two workers have in parts of 16: links to three pictures, one of them damaged."""
    originals = [picture(f"originals/{seed}.png", seed=seed) for seed in range(2)]
    cut = tmp_path / "originals" / "cut.png"
    cut.write_bytes(originals[0].read_bytes()[:300])
    (tmp_path / "in").mkdir()
    for number in range(40):
        source = cut if number % 17 == 5 else originals[number % 2]
        (tmp_path / "in" / f"{number:02}.png").symlink_to(source)
    return tmp_path / "in"


def test_its_records_are_those_of_infer_in_the_order_of_the_inputs(
    edgecxr: Edgecxr, here: type[Here], tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    out = tmp_path / "out"
    done = edgecxr("infer", films, "--ray", "local", "-m", tiny_bundle, "-o", out, "--json")
    assert done.returncode == 1, done.stderr  # some are rejected
    plain = edgecxr("infer", films, "-m", tiny_bundle, "-o", tmp_path / "plain.jsonl", "-q")
    assert plain.returncode == 1
    expected = [json.loads(line) for line in (tmp_path / "plain.jsonl").read_text().splitlines()]
    assert same(rows(out)) == same(expected)
    summary = json.loads(done.stdout)
    assert (summary["records"], summary["parts"], summary["workers"], summary["threads"]) == (40, 3, 2, 1)
    assert summary["statuses"] == {"scored": 37, "rejected": 3}
    assert sum(summary["labels"].values()) == 37
    assert not (tmp_path / "out.part").exists()


def test_a_run_that_broke_off_goes_on_without_a_film_lost_or_twice(
    edgecxr: Edgecxr, here: type[Here], tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    out, call = tmp_path / "out", ("infer", films, "--ray", "local", "-m", tiny_bundle, "-o", tmp_path / "out", "-q")
    here.broken_after = 2
    done = edgecxr(*call)
    assert (done.returncode, done.stderr) == (4, "edgecxr: the cluster failed\n")
    assert not out.exists()
    assert here.scored == [2, 1]
    done = edgecxr(*call)
    assert done.returncode == 2
    assert "give --resume to go on" in done.stderr
    (films / "40.png").symlink_to(films / "00.png")  # came later: it isn't one of this run's
    here.broken_after = None
    here.scored.clear()
    done = edgecxr(*call, "--resume", "--json")
    assert done.returncode == 1, done.stderr
    assert here.scored == [0]
    assert json.loads(done.stdout)["resumed"] == 24
    assert [row["path"] for row in rows(out)] == [str(films / f"{number:02}.png") for number in range(40)]


def test_a_signal_keeps_what_was_finished(
    edgecxr: Edgecxr, here: type[Here], tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    call = ("infer", films, "--ray", "local", "-m", tiny_bundle, "-o", tmp_path / "out")
    here.signal_after = 1
    done = edgecxr(*call)
    assert done.returncode == 143
    assert "the parts that were finished are kept, and --resume goes on" in done.stderr
    here.signal_after = None
    here.scored.clear()
    assert edgecxr(*call, "--resume").returncode == 1
    assert here.scored == [1, 0]
    assert len(rows(tmp_path / "out")) == 40


def test_what_could_not_be_read_is_read_again_and_else_nothing_is_done(
    edgecxr: Edgecxr, here: type[Here], tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    call = ("infer", films, "--ray", "local", "-m", tiny_bundle, "-o", tmp_path / "out", "-q", "--json")
    away = tmp_path / "away"
    (tmp_path / "originals" / "1.png").rename(away)
    found = json.loads(edgecxr(*call).stdout)["statuses"]
    assert found["rejected"] == 21  # 5, 22 and 39 are cut, and 18 other odd ones away
    away.rename(tmp_path / "originals" / "1.png")
    here.scored.clear()
    assert json.loads(edgecxr(*call, "--resume").stdout)["statuses"]["rejected"] == 3
    assert here.scored == [2, 1, 0]
    here.scored.clear()
    summary = json.loads(edgecxr(*call, "--resume").stdout)
    assert here.scored == []
    assert (summary["records"], summary["resumed"]) == (40, 40)


def test_another_run_is_not_gone_on_with(
    edgecxr: Edgecxr, here: type[Here], tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    call = ("infer", films, "--ray", "local", "-o", tmp_path / "out", "-q", "-m", tiny_bundle)
    here.broken_after = 1
    edgecxr(*call)
    for more, words in (
        (("--id", "hash"), "another id (path)"),
        (("--no-abstain",), "another abstain (True)"),
        (("--limit", "4"), "another limit (None)"),
    ):
        done = edgecxr(*call, "--resume", *more)
        assert done.returncode == 2
        assert f"the output was begun with {words}" in done.stderr
    other = shutil.copytree(films, tmp_path / "other", symlinks=True)
    done = edgecxr("infer", other, *call[2:], "--resume")
    assert "another paths" in done.stderr


def test_no_secret_of_an_address_is_kept(
    edgecxr: Edgecxr, here: type[Here], tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    out = tmp_path / "out"
    done = edgecxr("infer", f"file://{films}?hunter2=1", "--ray", "local", "-m", tiny_bundle, "-o", out, "-q")
    if done.returncode == 2:  # this pyarrow takes no options for local files
        done = edgecxr("infer", f"file://{films}", "--ray", "local", "-m", tiny_bundle, "-o", out, "-q")
    assert done.returncode == 1, done.stderr
    assert b"hunter2" not in (out / JOURNAL).read_bytes()
    assert {row["path"].rpartition("/")[0] for row in rows(out)} == {f"file://{films}"}


def test_by_hash_no_name_is_left(
    edgecxr: Edgecxr, here: type[Here], tmp_path: Path, tiny_bundle: Path, films: Path
) -> None:
    out, named = tmp_path / "out", films.rename(tmp_path / "canary")
    (named / "00-canary.png").symlink_to("gone")
    call = ("infer", named, "--ray", "local", "-m", tiny_bundle, "-o", out, "-q", "--id", "hash")
    here.broken_after = 1
    edgecxr(*call)
    here.broken_after = None
    done = edgecxr(*call, "--resume")
    assert done.returncode == 1, done.stderr
    assert not (out / listing.NAME).exists()
    assert all(b"canary" not in file.read_bytes() for file in out.iterdir())
    assert "canary" not in str(rows(out))
    here.scored.clear()
    assert edgecxr(*call, "--resume").returncode == 1  # nothing can be read again, and the folder stays
    assert here.scored == []
    assert len(rows(out)) == 41


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ray", "nowhere"), "expected --ray HOST:PORT"),
        (("--ray", "ray://host:10001"), "expected --ray HOST:PORT"),
        (("--ray", "host:99999"), "expected --ray HOST:PORT"),
        (("--ray", "local", "-o", "-"), "name it with -o DIR"),
        (("--ray", "local", "--watch"), "--ray goes without"),
        (("--ray", "local", "-o", "in/out"), "outside of the folders"),
        (("--ray", "local", "-o", "in/00.png"), "this is a file"),
        (("--ray", "local", "--resume", "--overwrite"), "give one of them"),
        (("--ray", "local", "--device", "cuda"), "expected a GPU on a node of the cluster, got 2 CPUs and 0 GPUs"),
        (("--ray", "local", "absent"), "no such file or folder: absent"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_leaves_nothing(
    edgecxr: Edgecxr,
    here: type[Here],
    tmp_path: Path,
    tiny_bundle: Path,
    films: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    paths = [] if "absent" in arguments else ["in"]
    output = [] if "-o" in arguments else ["-o", "out"]
    done = edgecxr("infer", *paths, "-m", tiny_bundle, *output, *arguments)
    assert done.returncode == (4 if "GPU" in words else 2)
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_without_the_extra_its_name_is_told(
    edgecxr: Edgecxr, tmp_path: Path, tiny_bundle: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    done = edgecxr("infer", films, "--ray", "local", "-m", tiny_bundle, "-o", tmp_path / "out")
    assert done.returncode == 4
    assert "this needs the extra 'ray'" in done.stderr
    assert not (tmp_path / "out.part").exists()
