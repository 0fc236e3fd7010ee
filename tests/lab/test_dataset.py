"""Labelled data: manifests, folders per class, and splits that never divide a group."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecxr.errors import DataError
from edgecxr.lab.dataset import SPLITS, Dataset, Example, folds, read_dataset, with_splits, without_value

HEADER = "file,label,split,group,origin\n"


def manifest(folder: Path, rows: str, header: str = HEADER) -> Path:
    (folder / "manifest.csv").write_text(header + rows)
    return folder


def test_a_manifest_is_read_in_its_order(tmp_path: Path) -> None:
    data = read_dataset(manifest(tmp_path, "b.png,normal,train,p1,here\na.png,covid,dev,p2,there\n"))
    assert data.labels == ("covid", "normal")
    assert [(e.file, e.label, e.split, e.group, e.origin) for e in data.examples] == [
        ("b.png", "normal", "train", "p1", "here"),
        ("a.png", "covid", "dev", "p2", "there"),
    ]
    assert [e.file for e in data.where({"origin": "there"}).examples] == ["a.png"]


def test_a_folder_per_class_is_sorted_and_other_files_are_left_out(
    picture: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("normal/b.png", "normal/a.png", "covid/deep/c.jpg"):
        picture(name)
    (tmp_path / "normal" / "notes.txt").write_text("x")
    data = read_dataset(tmp_path)
    assert [(e.file, e.label) for e in data.examples] == [
        ("covid/deep/c.jpg", "covid"),
        ("normal/a.png", "normal"),
        ("normal/b.png", "normal"),
    ]


def test_what_other_programs_leave_beside_the_pictures_is_no_class_and_no_picture(
    picture: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("covid/a.png", "normal/b.png"):
        picture(name)
    left = (
        ".ipynb_checkpoints/a.png",
        "__MACOSX/covid/a.png",
        "covid/.ipynb_checkpoints/a-checkpoint.png",
        "covid/._a.png",
        "normal/__MACOSX/b.png",
    )
    for name in left:
        picture(name)
    (tmp_path / "normal" / "folder.png").mkdir()
    (tmp_path / "normal" / "c.png").symlink_to("nowhere.png")  # whoever reads it says what's wrong
    data = read_dataset(tmp_path)
    assert data.labels == ("covid", "normal")
    assert [e.file for e in data.examples] == ["covid/a.png", "normal/b.png", "normal/c.png"]


def test_a_class_folder_without_pictures_is_named(picture: Callable[..., Path], tmp_path: Path) -> None:
    picture("covid/a.png")
    (tmp_path / "normal").mkdir()
    (tmp_path / "normal" / "b.dcm").write_text("x")
    with pytest.raises(DataError, match="every folder is a class, and normal holds no picture"):
        read_dataset(tmp_path)


def test_groups_and_patients_that_meet_are_one_group(tmp_path: Path) -> None:
    header = "file,label,group,patient\n"
    rows = (
        "1.png,a,g2,p1",  # a patient with films in two groups …
        "2.png,a,g1,p1",
        "3.png,a,g1,p2",  # … one of which holds another patient's, …
        "4.png,a,,p2",  # … who has a film without a group
        "5.png,a,,p3",
        "6.png,a,,p3",
        "7.png,a,,",
        "8.png,a,,",
        "9.png,a,p4,",
    )
    data = read_dataset(manifest(tmp_path, "\n".join(rows) + "\n", header))
    assert [e.group for e in data.examples] == ["g1"] * 4 + ["p3"] * 2 + ["7.png", "8.png", "p4"]


def test_no_patient_is_divided_where_only_some_films_have_a_group(tmp_path: Path) -> None:
    rows = [f"{patient}-{film}.png,{'ab'[patient % 2]},{'g' + str(patient) if film else ''},p{patient}"
            for patient in range(24) for film in range(2)]  # fmt: skip
    data = read_dataset(manifest(tmp_path, "\n".join(rows) + "\n", "file,label,group,patient\n"))
    for made in (with_splits(data, 0), *folds(data, 5, 0)):
        splits = defaultdict(set)
        for example in made.examples:
            splits[example.columns["patient"]].add(example.split)
        assert {len(found) for found in splits.values()} == {1}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a.png,covid,training,g,o\n", "split must be one of"),
        ("a.png,,train,g,o\n", "needs a file and a label"),
        ("a.png,covid,train\n", "as many fields"),
        ("a.png,covid,train,g,o,extra\n", "as many fields"),
        ("../a.png,covid,train,g,o\n", "outside the folder"),
        ("/a.png,covid,train,g,o\n", "outside the folder"),
        ("a.png,covid,train,g,o\na.png,normal,train,g,o\n", "a second time"),
        ("a/1.png,covid,train,g,o\n./a//1.png,covid,test,h,o\n", "names a file a second time: a/1.png"),
        ("", "no labelled pictures"),
    ],
)
def test_a_garbled_manifest_is_one_sentence(tmp_path: Path, rows: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_dataset(manifest(tmp_path, rows))


def test_a_manifest_saved_by_a_spreadsheet_is_read_and_a_lacking_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbffile,label\r\na.png,covid\r\n")
    assert read_dataset(tmp_path).labels == ("covid",)
    with pytest.raises(DataError, match="needs the columns file and label"):
        read_dataset(manifest(tmp_path, "a.png,covid\n", header="path,label\n"))


def test_folders_of_splits_are_not_taken_for_classes(picture: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("train/covid/a.png", "test/normal/b.png"):
        picture(name)
    with pytest.raises(DataError, match="splits and not classes"):
        read_dataset(tmp_path)


def test_splits_are_made_by_group_stratified_and_repeatable(tmp_path: Path) -> None:
    rows = "".join(
        f"{label}{g}-{i}.png,{label},,{label}-g{g},o\n"
        for label in ("covid", "normal")
        for g in range(40)
        for i in range(3)
    )
    data = with_splits(read_dataset(manifest(tmp_path, rows)), seed=1)
    groups: dict[str, set[str | None]] = {}
    for example in data.examples:
        groups.setdefault(example.group, set()).add(example.split)
    assert all(len(splits) == 1 for splits in groups.values())
    counts = Counter((e.label, e.split) for e in data.examples)
    for label in data.labels:
        assert (counts[label, "train"], counts[label, "dev"], counts[label, "test"]) == (72, 18, 30)  # 60, 15, 25 %
    assert with_splits(read_dataset(tmp_path), seed=1) == data
    assert with_splits(read_dataset(tmp_path), seed=2) != data


def test_a_group_is_placed_by_the_hash_of_its_name_in_bytes_utf_8_or_not() -> None:
    """The first in order is dev, the second test, the third train, so that a later version mustn't move them."""
    names = ["é1", "é2", os.fsdecode(b"latin\xe9.png")]
    bytes_of = {names[0]: b"7:\xc3\xa91", names[1]: b"7:\xc3\xa92", names[2]: b"7:latin\xed\xb3\xa9.png"}  # U+DCE9
    split = with_splits(dataset([("a", name, "", None) for name in names]), seed=7)
    split_of = {example.group: example.split for example in split.examples}
    ordered = sorted(names, key=lambda name: hashlib.sha256(bytes_of[name]).digest())
    assert [split_of[name] for name in ordered] == ["dev", "test", "train"]


def test_a_divided_group_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{s}{label}.png,{label},{s},p,o\n" for s in ("train", "dev", "test") for label in ("a", "b"))
    with pytest.raises(DataError, match="more than one split"):
        with_splits(read_dataset(manifest(tmp_path, rows)), seed=0)


def test_a_split_without_a_class_is_refused(tmp_path: Path) -> None:
    rows = "".join(
        f"{s}{label}.png,{label},{s},{s}{label},o\n"
        for s in ("train", "dev", "test")
        for label in ("a", "b")
        if (s, label) != ("dev", "b")
    )
    with pytest.raises(DataError, match="dev split has no picture of b"):
        with_splits(read_dataset(manifest(tmp_path, rows)), seed=0)


def test_half_a_split_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="some pictures"):
        with_splits(read_dataset(manifest(tmp_path, "a.png,a,train,1,o\nb.png,b,,2,o\n")), seed=0)


def test_unknown_columns_and_empty_selections_are_refused(tmp_path: Path) -> None:
    data = read_dataset(manifest(tmp_path, "a.png,a,train,1,o\n"))
    with pytest.raises(DataError, match="no column"):
        data.where({"age": "3"})
    with pytest.raises(DataError, match="no picture has"):
        data.where({"origin": "elsewhere"})


def dataset(rows: list[tuple[str, str, str, str | None]]) -> Dataset:
    """Of (label, group, origin, split)."""
    examples = tuple(
        Example(Path(f"{i}.png"), f"{i}.png", label, split, group, {"origin": origin})
        for i, (label, group, origin, split) in enumerate(rows)
    )
    return Dataset(Path(), tuple(sorted({label for label, *_ in rows})), examples)


@st.composite
def films(draw: st.DrawFn, groups: int = 5) -> Dataset:
    """Two or three classes of at least so many groups, each group with one to four pictures of one to three origins."""
    sizes = draw(st.lists(st.integers(groups, groups + 20), min_size=2, max_size=3))
    random = Random(draw(st.integers(0, 2**32)))  # the details, which would be thousands of draws
    rows = []
    for label, size in zip("abc", sizes, strict=False):
        for group in range(size):
            origins = random.choices(["here", "there", "far"], k=random.randint(1, 4))
            rows += [(label, f"{label}{group}", origin, None) for origin in origins]
    random.shuffle(rows)
    return dataset(rows)


def splits_of_groups(data: Dataset) -> dict[str, set[str | None]]:
    found: dict[str, set[str | None]] = defaultdict(set)
    for example in data.examples:
        found[example.group].add(example.split)
    return found


def groups(data: Dataset, split: str, label: str) -> set[str]:
    return {example.group for example in data.split(split) if example.label == label}


@settings(deadline=None)  # a busy machine
@given(films(), st.integers(0, 99))
def test_no_split_divides_a_group_and_each_has_every_class(data: Dataset, seed: int) -> None:
    split = with_splits(data, seed)
    assert [e.file for e in split.examples] == [e.file for e in data.examples]
    assert all(len(splits) == 1 for splits in splits_of_groups(split).values())
    for label in data.labels:
        counts = {name: len(groups(split, name, label)) for name in SPLITS}
        total = sum(counts.values())
        assert counts["dev"] == max(1, round(0.15 * total))
        assert counts["test"] == max(1, round(0.25 * total))


@settings(deadline=None)  # a busy machine
@given(films(), st.integers(0, 99))
def test_a_groups_split_depends_on_the_seed_and_not_on_the_order_of_the_data(data: Dataset, seed: int) -> None:
    other = with_splits(replace(data, examples=tuple(sorted(data.examples, key=lambda e: e.group))), seed)
    assert splits_of_groups(other) == splits_of_groups(with_splits(data, seed))


@settings(deadline=None)  # a busy machine
@given(films(), st.integers(2, 5), st.integers(0, 99))
def test_folds_test_every_picture_once_divide_no_group_and_are_stratified(data: Dataset, count: int, seed: int) -> None:
    parts = folds(data, count, seed)
    assert len(parts) == count
    tested = Counter(example.file for part in parts for example in part.split("test"))
    assert tested == Counter(example.file for example in data.examples)
    for part in parts:
        assert [e.file for e in part.examples] == [e.file for e in data.examples]
        assert all(len(splits) == 1 for splits in splits_of_groups(part).values())
        assert all(groups(part, split, label) for split in SPLITS for label in data.labels)
    for label in data.labels:
        sizes = [len(groups(part, "test", label)) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        for part in parts:
            dev, rest = (len(groups(part, split, label)) for split in ("dev", "train"))
            assert dev == -(-(dev + rest) // 5)  # a fifth of what isn't tested, rounded up
    assert folds(data, count, seed) == parts


def test_folds_are_made_whatever_splits_the_manifest_gives() -> None:
    rows = [(label, f"{label}{i}", "o", "test") for label in "ab" for i in range(6)]
    assert [len(part.split("test")) for part in folds(dataset(rows), 3, 0)] == [4, 4, 4]


@pytest.mark.parametrize(("count", "have", "needed"), [(5, 4, 5), (3, 2, 3), (2, 3, 4)])
def test_folds_that_a_class_is_too_small_for_are_one_sentence(count: int, have: int, needed: int) -> None:
    rows = [("a", f"a{i}", "o", None) for i in range(20)] + [("b", f"b{i}", "o", None) for i in range(have)]
    with pytest.raises(DataError, match=rf"{count} folds need {needed} groups of each class, b has only {have}$"):
        folds(dataset(rows), count, 0)
    rows += [("b", f"b{i}", "o", None) for i in range(have, needed)]
    assert len(folds(dataset(rows), count, 0)) == count


@settings(deadline=None)  # a busy machine
@given(films(8), st.sampled_from(["here", "there", "far"]), st.integers(0, 99))
def test_a_held_out_origin_is_the_test_split_and_nothing_of_its_groups_is_learnt(
    data: Dataset, origin: str, seed: int
) -> None:
    try:
        held = without_value(data, "origin", origin, seed)
    except DataError as error:
        assert origin in str(error) or "split has no picture" in str(error)
        return
    assert {e.file for e in held.split("test")} == {e.file for e in data.examples if e.origin == origin}
    learnt = (*held.split("train"), *held.split("dev"))
    assert not {e.group for e in learnt} & {e.group for e in held.split("test")}
    assert all(e.origin != origin for e in learnt)
    assert all(groups(held, split, label) for split in ("train", "dev") for label in data.labels)


def held_rows() -> list[tuple[str, str, str, str | None]]:
    return [(label, f"{label}{origin}{i}", origin, None) for label in "ab" for origin in "xy" for i in range(8)]


def test_a_held_out_origin_that_alone_has_a_class_is_refused() -> None:
    rows = [*held_rows(), *((("c", f"c{i}", "x", None)) for i in range(8))]
    with pytest.raises(DataError, match="without the origin 'x' no picture of c is left to learn from"):
        without_value(dataset(rows), "origin", "x", 0)
    held = without_value(dataset(rows), "origin", "y", 0)
    assert {e.label for e in held.split("test")} == {"a", "b"}
    assert {e.label for e in held.split("train")} == {"a", "b", "c"}


def test_a_class_that_vanishes_with_the_groups_of_an_origin_is_refused_too() -> None:
    # Every picture of c shares its patient with one of origin x.
    rows = [*held_rows(), *(("c", f"c{i}", origin, None) for i in range(8) for origin in "xy")]
    with pytest.raises(DataError, match="without the origin 'x' no picture of c is left to learn from"):
        without_value(dataset(rows), "origin", "x", 0)


def test_an_unknown_origin_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(DataError, match="origin must be one of x; y, got 'z'"):
        without_value(dataset(held_rows()), "origin", "z", 0)
    with pytest.raises(DataError, match="origin must be one of none, there are none, got ''"):
        without_value(dataset([("a", "1", "", None), ("b", "2", "", None)]), "origin", "", 0)


def test_without_given_splits_nothing_of_the_other_origins_is_left_unused() -> None:
    data = dataset(held_rows())
    held = without_value(data, "origin", "x", 0)
    assert {e.file for e in held.examples} == {e.file for e in data.examples}
    assert Counter(e.split for e in held.examples) == {"test": 16, "train": 12, "dev": 4}


def test_the_manifests_splits_hold_for_what_is_learnt_from() -> None:
    # The other origin has no test picture of b, and needs none: its test pictures aren't used.
    rows = [("a", f"a{s}", "y", s) for s in SPLITS] + [("b", f"b{s}", "y", s) for s in ("train", "dev")]
    rows += [(label, f"{label}x{s}", "x", s) for label in "ab" for s in SPLITS]
    held = without_value(dataset(rows), "origin", "x", 0)
    kept = {(e.group, e.split) for e in held.examples if e.origin == "y"}
    assert kept == {("atrain", "train"), ("adev", "dev"), ("btrain", "train"), ("bdev", "dev")}
    assert len(held.split("test")) == 6


def test_the_real_manifest_has_the_splits_its_readme_promises(real_data: Path) -> None:
    data = with_splits(read_dataset(real_data / "radiography"), seed=0)
    assert data.labels == ("covid", "normal", "viral_pneumonia")
    assert Counter(e.label for e in data.examples) == {"covid": 3616, "normal": 3183, "viral_pneumonia": 1493}
    assert len(data.split("test")) == 2106
