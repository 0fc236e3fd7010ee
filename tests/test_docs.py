"""The pages for people and the schemas for integrators say what the program does."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator

import edgecxr as package
from common import ROOT
from edgecxr.cli import app

PAGES = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
BESIDE = [
    ROOT / name for name in ("CHANGELOG.md", "benchmarks/README.md", "examples/c/README.md", "examples/web/README.md")
]
BUNDLES = [
    *sorted((ROOT / "edgecxr" / "models").glob("*.edgecxr")),
    *sorted((ROOT / "tests" / "bundles").glob("*.edgecxr")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in `language`."""
    return [body for name, body in BLOCK.findall(page.read_text()) if name == language]


def spans(page: Path) -> list[str]:
    """What stands between backticks in a page's running text."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", BLOCK.sub("", page.read_text()))]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as forges make them: small letters, no punctuation, a dash for a space."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# Pages


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) < 1200


def test_every_page_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in PAGES[1:]:
        assert f"({page.relative_to(ROOT)}" in readme, page


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            there = (page.parent / file).resolve() if file else page
            assert there.exists(), target
            assert not anchor or anchor in anchors(there), target


TOPS = ("edgecxr", "edgecxr_export", "export", "benchmarks", "docs", "examples", "samples", "tests")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_is_named_is_there(page: Path) -> None:
    for word in (word for span in spans(page) for word in span.split()):
        file = word.split("::")[0]
        if file.split("/")[0] in TOPS and "/" in file and "NAME" not in file:
            assert (ROOT / file).exists() or (ROOT / "export" / file).exists(), file


def test_the_folders_are_those_of_the_page() -> None:
    tree, *_ = blocks(ROOT / "CONTRIBUTING.md", "")
    stack: list[str] = []
    for indent, name in re.findall(r"^( *)([\w./]+/)(?: |$)", tree, flags=re.MULTILINE):
        stack = [*stack[: len(indent) // 2], name]
        assert (ROOT / "".join(stack)).is_dir(), name
    listed = set(re.findall(r"^  (\w+)/ ", tree, flags=re.MULTILINE))
    packages = (ROOT / "edgecxr", ROOT / "export" / "edgecxr_export")
    assert listed == {path.name for top in packages for path in top.iterdir() if path.is_dir()} - {"__pycache__"}


def test_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / "docs" / "pictures").iterdir() if path.suffix in (".png", ".svg")]
    assert len(pictures) >= 2
    assert all(path.stat().st_size < 150_000 for path in pictures)
    assert all("url(" not in path.read_text() for path in pictures if path.suffix == ".svg")  # nothing is loaded


# Commands


def commands() -> dict[str, set[str]]:
    """{verb: its options}; "data show" is a verb, and "" the program itself."""

    def of(command: Any) -> set[str]:
        return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}

    found: dict[str, set[str]] = {}
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        verb, command = waiting.pop()
        found[verb] = of(command) | {"--help", "-h"}
        waiting += [(f"{verb} {name}".strip(), inner) for name, inner in getattr(command, "commands", {}).items()]
    return found


COMMANDS = commands()


def calls(code: str) -> Iterator[tuple[str, set[str]]]:
    """(verb, options) of each call of edgecxr in a line of shell."""
    for part in re.split(r"\s#\s.*$|\||&&|;|[()]", code):
        words = part.split()
        at = next((i for i, word in enumerate(words) if word.split("/")[-1] == "edgecxr"), None)
        if at is None or len(words) == at + 1:
            continue
        arguments = words[at + 1 :]
        verb = " ".join(arguments[:2]) if arguments[0] == "data" else arguments[0]
        if verb.startswith("-"):
            verb = ""
        yield verb, {word.split("=")[0] for word in arguments if re.match(r"--?\w", word)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_verb_and_option_that_is_named_is_there(page: Path) -> None:
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    for verb, options in (call for code in (*lines, *spans(page)) for call in calls(code)):
        assert verb in COMMANDS, f"edgecxr {verb}"
        assert options <= COMMANDS[verb], f"edgecxr {verb}: {options - COMMANDS[verb]}"
    everywhere = set().union(*COMMANDS.values())
    for span in spans(page):
        if re.match(r"--\w", span):
            assert span.split()[0].split("=")[0] in everywhere, span


def test_calls_are_found_where_they_stand() -> None:
    text = "KEY=jax .venv/bin/edgecxr train DATA -o RUN --seed=1 && find . | edgecxr data show D -o s.png  # edgecxr no"
    assert list(calls(text)) == [("train", {"-o", "--seed"}), ("data show", {"-o"})]
    assert list(calls("pip install 'edgecxr[cpu]' edgecxr")) == []


# Examples


@pytest.mark.parametrize("name", ["python.md", "bundle.md"])
def test_the_python_example_runs(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = blocks(ROOT / "docs" / name, "python")
    names: dict[str, Any] = {}
    exec(compile(code, name, "exec"), names)
    if name == "bundle.md":
        manifest, probabilities = names["manifest"], names["probabilities"]
        assert manifest["digest"] == package.load().digest
        assert probabilities.shape == (8, len(manifest["labels"]))
        assert abs(probabilities.sum(axis=1) - 1).max() < 1e-6
    else:
        assert capsys.readouterr().out.count("phantom") == 2


def test_the_stable_names_are_the_public_ones() -> None:
    row = next(line for line in (ROOT / "docs" / "stability.md").read_text().splitlines() if "__all__" in line)
    assert set(re.findall(r"`(\w+)`", row)) == set(package.__all__)


# Formats


@lru_cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def errors(name: str, value: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(value)]


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda bundle: bundle.name)
def test_every_bundle_fits_the_schema(bundle: Path) -> None:
    assert errors("bundle", json.loads((bundle / "bundle.json").read_text())) == []


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """The manifest and each object in it, but not those that are for people."""
    if isinstance(value, dict):
        yield value
        for key, item in value.items():
            if key != "provenance":
                yield from objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item)


def test_a_bundle_with_a_field_more_or_less_does_not() -> None:
    manifest = json.loads((BUNDLES[0] / "bundle.json").read_text())
    optional = {"operating_points", "opset", "ir_version", "weight_bits", "float_nodes", "parity", "speed"}
    for position, found in enumerate(objects(manifest)):
        for key in found.keys() - optional:
            changed = deepcopy(manifest)
            del list(objects(changed))[position][key]
            assert errors("bundle", changed), key
        changed = deepcopy(manifest)
        list(objects(changed))[position]["another"] = 1
        assert errors("bundle", changed), found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2),
        ("labels", ["covid"]),
        ("labels", ["covid", "covid"]),
        ("labels", ["covid", "../normal"]),
        ("temperature", 0),
        ("artifacts", []),
        ("digest", "0" * 63),
    ],
)
def test_a_bundle_of_another_kind_does_not_fit(field: str, value: object) -> None:
    manifest = json.loads((BUNDLES[0] / "bundle.json").read_text())
    assert errors("bundle", {**manifest, field: value})


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two real runs wrote of good and broken pictures: to a file, and to stdout, under hashes, for stdin."""
    folder = tmp_path_factory.mktemp("records")
    pictures = folder / "in"
    shutil.copytree(ROOT / "samples", pictures)
    (pictures / "cut.jpg").write_bytes((pictures / "phantom-3.jpg").read_bytes()[:3000])
    (pictures / "empty.png").touch()
    (pictures / "text.png").write_text("no picture")
    (pictures / "gone.png").symlink_to("nowhere")
    model = ("-m", str(BUNDLES[-1]), "-q")
    written = []
    silent = ("-m", str(ROOT / "tests/bundles/1-with-abstention.edgecxr"))
    for arguments, asked in (
        (("in", "-o", "a.jsonl"), None),
        (("--stdin", "--id", "hash"), "in/phantom-1.png\n\nin/cut.jpg\n"),
        (("--stdin", *silent), "in/phantom-1.png\n\n"),
        (("--stdin", *silent, "--abstain-at", "1e6"), "in/phantom-1.png\n\n"),
        (("--stdin", *silent, "--no-abstain"), "in/phantom-1.png\n\n"),
    ):
        command = [sys.executable, "-m", "edgecxr", "infer", *model, *arguments]
        done = subprocess.run(command, cwd=folder, input=asked, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        written.append(done.stdout or (folder / "a.jsonl").read_text())
    return [json.loads(line) for text in written for line in text.splitlines()]


def test_every_record_fits_the_schema(records: list[dict[str, Any]]) -> None:
    assert len(records) == 9 + 3 + 2 + 2 + 2
    assert [(record["status"], record["abstention"]) for record in records[12::2]] == [
        ("abstained", "bundle"), ("scored", "asked"), ("scored", "off"),
    ]  # fmt: skip
    assert {record["status"] for record in records} == {"scored", "abstained", "rejected"}
    assert [message for record in records for message in errors("records", record)] == []


def test_a_record_with_a_field_more_or_less_does_not(records: list[dict[str, Any]]) -> None:
    by_status = {record["status"]: record for record in records}
    for record in by_status.values():
        for key in record:
            if not key.startswith(("p_", "logit_")):  # which there are, the bundle says
                assert errors("records", {name: value for name, value in record.items() if name != key}), key
        assert errors("records", {**record, "another": 1})
        assert errors("records", {**record, "schema": 1})
        assert errors("records", {**record, "status": "unknown"})
    assert errors("records", {**by_status["abstained"], "label": "covid"})
    assert errors("records", {**by_status["abstained"], "ood_score": None})
    assert errors("records", {**by_status["abstained"], "abstention": "off", "abstain_at": None})
    assert errors("records", {**by_status["scored"], "abstain_at": 1.0, "abstention": "none"})
    assert errors("records", {**by_status["scored"], "p_covid": None})
    assert errors("records", {**by_status["scored"], "status": "rejected"})
    assert errors("records", {**by_status["rejected"], "error": None})
    assert errors("records", {**by_status["rejected"], "error": {"code": "empty", "message": "x", "more": 1}})


def first_column(page: Path, heading: str) -> list[str]:
    """What stands in backticks in the first column of the table under a heading."""
    section = page.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [name for line in section.splitlines() for name in re.findall(r"`([^`]+)`", line.split(" | ")[0])]


def test_the_page_has_every_column_in_its_order(records: list[dict[str, Any]]) -> None:
    columns = [re.sub(r"^(p|logit)_.*", r"\1_<label>", column) for column in records[0]]
    assert first_column(ROOT / "docs" / "records.md", "Columns") == list(dict.fromkeys(columns))


def test_the_page_has_every_code_of_a_rejection() -> None:
    codes = set()
    for path in (ROOT / "edgecxr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "PictureRejected":
                if getattr(node.args[0], "attr", "") == "error_code":
                    continue  # a prediction's, which was made with one of the others
                assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno}"
                codes.add(node.args[0].value)
    assert len(codes) > 10
    named = first_column(ROOT / "docs" / "records.md", "Codes of rejections")
    assert (set(named), len(named)) == (codes, len(codes))
