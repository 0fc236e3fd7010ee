"""The floors of dependencies are those that SECURITY.md gives a reason for, and constraints.txt is above them."""

import re
import tomllib

from packaging.version import Version

from common import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?(?:>=([\w.]+))?")


def floors() -> dict[str, set[str]]:
    """{package: its floors} over the base and every extra but that of the tests, which nobody else installs."""
    extras = PROJECT["optional-dependencies"]
    listed = [*PROJECT["dependencies"], *(line for name, lines in extras.items() if name != "test" for line in lines)]
    found: dict[str, set[str]] = {}
    for line in listed:
        match = REQUIREMENT.fullmatch(line.split(";")[0].strip())
        assert match, line
        if match[1] != "edgecxr":
            found.setdefault(match[1].lower(), set()).add(match[2])
    return found


def table() -> dict[str, set[str]]:
    text = (ROOT / "SECURITY.md").read_text().partition("## Dependencies")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\w.-]+) \| ([\d.]+) \| (.+) \|$", text, flags=re.MULTILINE)
    assert len({name for name, _, _ in rows}) == len(rows)
    assert all(reason.strip() for _, _, reason in rows)
    return {name: {floor} for name, floor, _ in rows}


def test_every_floor_is_the_one_that_security_md_gives_a_reason_for() -> None:
    assert table() == floors()


def test_what_is_tested_is_not_below_a_floor() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    checked = [name for name in floors() if name in pinned]
    assert {"numpy", "pillow", "onnx", "keras", "jinja2", "onnxruntime", "openvino"} <= set(checked)
    for name in checked:
        assert all(Version(pinned[name]) >= Version(floor) for floor in floors()[name]), name


def test_advisories_are_named_by_their_numbers() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    for package in ("pillow", "onnx", "keras", "jinja2"):
        assert re.search(rf"^\| {package} \| .*(CVE-\d{{4}}-\d+|GHSA(-\w{{4}}){{3}})", text, flags=re.MULTILINE), (
            package
        )
