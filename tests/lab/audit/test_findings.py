"""What is said about duplicates, groups, splits and places; counts by hand."""

from __future__ import annotations

from drawn import example, films_of

from edgecxr.lab.audit.duplicates import DuplicateSet, Match
from edgecxr.lab.audit.findings import (
    Finding,
    against,
    confounded,
    divided,
    duplicates,
    in_order,
    provenance_table,
    ungrouped,
    unreadable,
    without_split,
)

FILMS = films_of(
    [
        example("0", "a", "train", group="g"),
        example("1", "a", "test", group="g"),
        example("2", "b", "train", group="h"),
        example("3", "b", "train", group="h"),
        example("4", "a", "train", group="i"),
        example("5", "b", "dev", group="j"),
        example("6", "a", None, group="g"),
    ]
)


def files(finding: Finding) -> list[list[str]]:
    return [[file["file"] for file in of_set] for of_set in finding.files]


def test_duplicates_across_splits_across_classes_and_within() -> None:
    sets = [DuplicateSet((0, 1), 0.95), DuplicateSet((2, 3), 0.99), DuplicateSet((4, 5), 0.91)]
    splits, classes, within = duplicates("near", FILMS, sets)
    assert (splits.id, splits.severity, files(splits)) == ("near-across-splits", "leak", [["0", "1"], ["4", "5"]])
    assert splits.figure == "2 sets, 4 pictures"
    assert (classes.id, classes.severity, files(classes)) == ("near-across-classes", "warning", [["4", "5"]])
    assert (within.id, within.severity, files(within)) == ("near-within", "note", [["2", "3"]])
    assert within.files[0][0] == {"file": "2", "label": "b", "split": "train", "similarity": 0.99}


def test_a_picture_without_a_split_leaks_nothing() -> None:
    splits, _, within = duplicates("exact", FILMS, [DuplicateSet((0, 6), 1.0)])
    assert (splits.severity, splits.figure) == ("ok", "none")
    assert files(within) == [["0", "6"]]


def test_data_without_splits_is_not_said_to_be_free_of_leaks() -> None:
    films = films_of([example("0"), example("1", "b")])
    assert [f.id for f in duplicates("exact", films, [])] == ["exact-across-classes", "exact-within"]
    note = without_split(films)
    assert note is not None
    assert (note.severity, note.id) == ("note", "splits")
    assert divided("group", films) is None


def test_some_pictures_without_a_split() -> None:
    found = without_split(FILMS)
    assert found is not None
    assert (found.severity, found.figure, files(found)) == ("warning", "1 of 7", [["6"]])
    assert without_split(films_of([example("0", split="dev")])) is None


def test_groups_and_patients_in_more_than_one_split() -> None:
    found = divided("group", FILMS)
    assert found is not None
    assert (found.severity, found.figure, files(found)) == ("leak", "1 of 4, 2 pictures", [["0", "1"]])
    assert found.files[0][0]["group"] == "g"
    assert divided("patient", FILMS) is None  # no such column
    kept = divided("patient", films_of([example(str(i), split="test", patient="p") for i in range(3)]))
    assert kept is not None
    assert (kept.severity, kept.figure) == ("ok", "none of 1")


def test_duplicates_that_no_group_holds_together() -> None:
    found = ungrouped(FILMS, [DuplicateSet((0, 1), 0.95), DuplicateSet((4, 5), 0.91)])
    assert (found.severity, files(found)) == ("warning", [["4", "5"]])
    assert ungrouped(FILMS, [DuplicateSet((2, 3), 1.0)]).severity == "ok"


def test_unreadable_pictures() -> None:
    bad = [(example("x"), "blank", "the picture is blank"), (example("y"), "empty", "the file is empty")]
    found = unreadable(films_of([example("0")], bad))
    assert (found.severity, found.figure) == ("warning", "2 of 3")
    assert found.values["reasons"] == {"blank": 1, "empty": 1}
    assert found.files[1][0]["reason"] == "the file is empty"
    assert unreadable(FILMS).severity == "ok"


def test_copies_in_another_folder() -> None:
    others = films_of([example("o")])
    found = against("other", FILMS, others, [Match(2, 0, 1.0), Match(4, 0, 0.93)])
    assert (found.severity, found.figure) == ("warning", "2 of 7 pictures (1 exact)")
    assert files(found) == [["2", "o"], ["4", "o"]]
    assert found.files[1][1]["folder"] == "other"
    assert against("other", FILMS, others, []).severity == "ok"


def test_no_copy_in_a_folder_that_could_not_be_read_whole_is_no_all_clear() -> None:
    others = films_of([example("o")], [(example("p"), "empty", "the file is empty")])
    found = against("other", FILMS, others, [])
    assert (found.severity, found.figure) == ("note", "none; 1 pictures there can't be read")


def test_classes_of_a_single_place() -> None:
    films = films_of(
        [
            example("0", "covid", origin="adult"),
            example("1", "normal", origin="adult"),
            example("2", "normal", origin="child"),
            example("3", "viral", origin="child"),
            example("4", "viral", origin="child"),
        ]
    )
    table = provenance_table("origin", films)
    assert table == {"covid": {"adult": 1}, "normal": {"adult": 1, "child": 1}, "viral": {"child": 2}}
    found = confounded("origin", table)
    assert (found.severity, found.figure) == ("warning", "2 of 3 (covid: adult; viral: child)")
    assert "--leave-one-out origin" in found.action
    assert "--leave-one-out source" in confounded("source", table).action
    assert confounded("origin", {"a": {"x": 1, "y": 1}}).severity == "ok"


def test_the_worst_comes_first() -> None:
    found = [Finding(s, s, "", "", "") for s in ("ok", "note", "leak", "warning")]  # type: ignore[arg-type]
    assert [f.id for f in in_order(found)] == ["leak", "warning", "note", "ok"]
