"""Outputs: a run that was stopped is resumed, and what was there stays until a whole output takes its place."""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from edgecxr.bundle import load
from edgecxr.engines.select import Asked
from edgecxr.errors import StorageError, UsageError
from edgecxr.records import output as recording
from edgecxr.scoring.folder import Inputs, Job, Options, find, prepare, score
from edgecxr.scoring.session import Session, open_session


@pytest.fixture(scope="module")
def session(tiny_bundle: Path) -> Session:
    return open_session(load(tiny_bundle), Asked(engine="onnxruntime", device="cpu"), workers=2, threads=1)


@pytest.fixture
def folder(picture: Callable[..., Path]) -> Path:
    """Nine good pictures and, as the third, a damaged one."""
    paths = [picture(f"in/{i}.png", seed=i) for i in range(9)]
    (paths[0].parent / "1-cut.png").write_bytes(paths[0].read_bytes()[:300])
    return paths[0].parent


Infer = Callable[..., Job]


@pytest.fixture
def infer(session: Session, folder: Path) -> Infer:
    """A run over the folder, in this process; `stop_after` records it is told to stop, as by a signal."""

    def run(
        output: Path,
        *,
        resume: bool = False,
        overwrite: bool = False,
        limit: int | None = None,
        name_by: Any = "path",
        stop_after: int | None = None,
        session: Session = session,
    ) -> Job:
        place = recording.check(output, overwrite=overwrite, going_on=resume)
        inputs = find([folder], place, limit=limit)
        made = prepare(session, inputs, place, Options(name_by), overwrite=overwrite, going_on=resume)
        count = 0

        def advance() -> None:
            nonlocal count
            count += 1
            if count == stop_after:
                os.kill(os.getpid(), 15)

        score(made, advance)
        return made

    return run


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def names(found: list[dict[str, Any]]) -> list[str]:
    return [Path(row["path"]).name for row in found]


ALL = ["0.png", "1-cut.png", *(f"{i}.png" for i in range(1, 9))]


def without_time(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "time_utc"} for row in found]


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_stopped_run_is_gone_on_with_to_the_same_end(infer: Infer, tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    stopped = infer(output, stop_after=3)
    assert stopped.signal == 15
    left = rows(output if name == "out.jsonl" else part(output))
    assert 3 <= len(left) < 10
    assert stopped.left_in == (output if name == "out.jsonl" else part(output))
    assert name == "out.jsonl" or not output.exists()  # a CSV is there only when it is whole
    with pytest.raises(UsageError, match="--resume"):
        infer(output)
    resumed = infer(output, resume=True)
    assert (resumed.resumed, resumed.summary()["records"]) == (len(left), 10)
    assert not part(output).exists()
    infer(tmp_path / f"straight-{name}")
    read = rows if name == "out.jsonl" else table
    assert without_time(read(output)) == without_time(read(tmp_path / f"straight-{name}"))
    assert resumed.summary()["statuses"] == {"scored": 9, "rejected": 1}


def test_resume_begins_where_there_is_nothing_and_does_nothing_where_all_is_done(infer: Infer, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.csv"):
        assert infer(tmp_path / name, resume=True).resumed == 0
        before = (tmp_path / name).read_bytes()
        assert infer(tmp_path / name, resume=True).resumed == 10
        assert (tmp_path / name).read_bytes() == before


def test_a_changed_file_is_scored_again_in_its_old_place(
    infer: Infer, picture: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    infer(output)
    before = rows(output)
    changed = picture("in/4.png", seed=99)
    run = infer(output, resume=True)
    assert any("1 files changed" in note for note in run.notes)
    after = rows(output)
    assert names(after) == ALL
    assert [i for i in range(10) if before[i] != after[i]] == [5]
    assert after[5]["bytes"] == changed.stat().st_size
    os.utime(changed, ns=(5, 5))  # touched, and the same
    infer(output, resume=True)
    assert rows(output)[5]["mtime_ns"] == 5
    assert rows(output)[5]["logit_covid"] == after[5]["logit_covid"]


def test_what_could_not_be_read_is_tried_again_and_new_files_are_added_in_order(
    infer: Infer, folder: Path, picture: Callable[..., Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    (folder / "2-late.png").symlink_to(tmp_path / "late.png")
    infer(output)
    assert [row["error_code"] for row in table(output)][3] == "unreadable"
    picture("late.png", seed=50)
    picture("in/0-new.png", seed=51)
    run = infer(output, resume=True)
    assert run.resumed == 10
    found = table(output)
    assert names(found) == sorted([*ALL, "2-late.png", "0-new.png"])
    assert [row["status"] for row in found] == ["scored", "scored", "rejected", *["scored"] * 9]


def test_what_is_no_input_any_more_keeps_its_record(infer: Infer, folder: Path, tmp_path: Path) -> None:
    infer(tmp_path / "out.jsonl")
    (folder / "3.png").unlink()
    infer(tmp_path / "out.jsonl", resume=True)
    assert names(rows(tmp_path / "out.jsonl")) == ALL


def test_a_limit_counts_what_is_finished(infer: Infer, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    infer(output, limit=6, stop_after=2)
    infer(output, limit=6, resume=True)
    assert names(rows(output)) == ALL[:6]
    infer(output, limit=8, resume=True)
    assert names(rows(output)) == ALL[:8]
    infer(output, resume=True)
    assert names(rows(output)) == ALL


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_without_names_too(infer: Infer, folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "0-twin.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "5-gone.png").symlink_to("nowhere")
    output, straight = tmp_path / name, tmp_path / f"straight-{name}"
    infer(straight, name_by="hash")
    infer(output, name_by="hash", stop_after=2)
    with pytest.raises(UsageError, match="other --id"):
        infer(output, resume=True)
    infer(output, name_by="hash", resume=True)
    read = rows if name == "out.jsonl" else table
    assert without_time(read(output)) == without_time(read(straight))
    assert len(read(output)) == 12
    assert infer(output, name_by="hash", resume=True).resumed == 11  # all but what couldn't be read
    assert without_time(read(output)) == without_time(read(straight))


def test_an_output_of_another_bundle_or_engine_is_refused_and_kept(
    infer: Infer, session: Session, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    infer(output)
    before = output.read_bytes()
    other = open_session(load(tiny.write_bundle(tmp_path / "o.edgecxr", version="2")), Asked(engine="onnxruntime"))
    with pytest.raises(UsageError, match="another bundle"):
        infer(output, resume=True, session=other)
    artifact = next(a for a in session.bundle.artifacts if a.precision == "fp32")
    fp32 = open_session(session.bundle, Asked(engine="onnxruntime", precision=artifact.precision))
    with pytest.raises(UsageError, match="onnxruntime CPUExecutionProvider int8 on cpu, and this run would use"):
        infer(output, resume=True, session=fp32)
    assert output.read_bytes() == before
    (tmp_path / "out.csv").write_text("a,b\r\n1,2\r\n")
    with pytest.raises(UsageError, match="this isn't"):
        infer(tmp_path / "out.csv", resume=True)
    assert (tmp_path / "out.csv").read_text() == "a,b\n1,2\n"


def test_a_torn_last_line_is_cut_off_and_made_again(infer: Infer, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    infer(output)
    whole = output.read_bytes()
    output.write_bytes(whole[:-40])
    run = infer(output, resume=True)
    assert any("torn last line" in note for note in run.notes)
    assert names(rows(output)) == ALL
    output.write_bytes(b"precious notes")
    with pytest.raises(UsageError, match="something else"):
        infer(output, resume=True)
    assert output.read_bytes() == b"precious notes"


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_overwriting_replaces_what_is_there_by_a_whole_output_only(infer: Infer, tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    output.write_text("precious")
    with pytest.raises(UsageError, match="--resume to go on, or --overwrite"):
        infer(output)
    infer(output, overwrite=True, stop_after=3)
    assert output.read_text() == "precious"
    left = len(rows(part(output)))
    assert infer(output, resume=True).resumed == left
    assert names(rows(output) if name == "out.jsonl" else table(output)) == ALL
    assert not part(output).exists()
    # And an unfinished run is thrown away only where that is said.
    infer(output, overwrite=True, stop_after=3)
    output.unlink()
    with pytest.raises(UsageError, match="an unfinished run left its records"):
        infer(output)
    infer(output, overwrite=True)
    assert not part(output).exists()


def test_a_link_is_written_through_and_a_circle_refused(infer: Infer, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link, target = tmp_path / "link.jsonl", tmp_path / "real" / "out.jsonl"
    target.write_text("precious")
    link.symlink_to(target)
    infer(link, overwrite=True)
    assert link.is_symlink()
    assert names(rows(target)) == ALL
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(UsageError, match="in a circle"):
        recording.check(tmp_path / "a.jsonl", overwrite=True, going_on=False)


@pytest.mark.parametrize("name", ["r.txt", "r", "absent/r.csv", ".", "pipe.jsonl", "folder.csv"])
def test_places_that_cannot_be_written_are_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UsageError):
        recording.check(tmp_path / name, overwrite=True, going_on=False)


def test_resume_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        recording.check(tmp_path / "r.csv", overwrite=True, going_on=True)


def test_outputs_among_the_pictures_are_no_inputs(infer: Infer, folder: Path) -> None:
    for name in ("out.jsonl", "out.csv"):
        infer(folder / name, stop_after=2)
        infer(folder / name, resume=True)
        infer(folder / name, overwrite=True)
    assert len(rows(folder / "out.jsonl")) == 10
    assert len(table(folder / "out.csv")) == 11  # with the other output


def test_an_error_within_a_run_leaves_what_is_written(
    infer: Infer, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking:
        def __getattr__(self, name: str) -> object:
            return getattr(session.engine, name)

        def run(self, images: Any) -> Any:
            raise ZeroDivisionError("by design")

    with pytest.raises(ZeroDivisionError, match="by design"):
        infer(tmp_path / "out.jsonl", session=replace(session, engine=Breaking()))
    assert infer(tmp_path / "out.jsonl", resume=True).summary()["records"] == 10


def test_a_place_that_turns_full_at_the_end_costs_nothing(
    infer: Infer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    output = tmp_path / "out.csv"
    output.write_text("precious")
    monkeypatch.setattr(recording, "write_csv", full)
    with pytest.raises(StorageError, match=r"No space left.*its records are kept"):
        infer(output, overwrite=True)
    assert output.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.csv", "out.csv.part"]
    monkeypatch.undo()
    assert infer(output, resume=True).resumed == 10
    assert names(table(output)) == ALL


def test_a_run_of_no_pictures_has_an_empty_output(session: Session, tmp_path: Path) -> None:
    place = recording.check(tmp_path / "out.csv", overwrite=False, going_on=False)
    run = prepare(session, Inputs((), 0), place, Options())
    score(run)
    assert run.summary()["records"] == 0
    assert table(tmp_path / "out.csv") == []
