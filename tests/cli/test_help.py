"""Help that a person reads at 80 columns."""

from __future__ import annotations

from itertools import pairwise

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from edgecxr.cli import app

VERBS = [name for name in get_command(app).commands if name != "data"]  # type: ignore[attr-defined]


def lines(*arguments: str) -> list[str]:
    done = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert done.exit_code == 0
    return done.output.splitlines()


@pytest.mark.parametrize("verb", [[name] for name in VERBS] + [["data", name] for name in ("kaggle", "import", "show")])
def test_paragraphs_fill_their_lines_and_options_leave_room_for_what_they_do(verb: list[str]) -> None:
    shown = lines(*verb)
    assert max(map(len, shown)) <= 80
    prose = [line.strip() for line in shown if not line.startswith(("╭", "│", "╰"))]
    for line, following in pairwise(prose):
        if line and following and not line.startswith("Usage"):
            assert len(line) + 1 + len(following.split()[0]) > 78, f"{line!r} breaks before {following!r}"
    # What the text of options begins under: at most 55 columns go to names and types.
    option = next(line for line in shown if "Show this message" in line)
    assert option.index("Show this message") <= 55


def test_the_verbs_stand_in_the_panel_of_the_device_the_clinic_or_the_lab() -> None:
    text = "\n".join(lines())
    device, rest = text.split("─ Device ─")[1].split("─ Clinic (extras) ─")
    clinic, lab = rest.split("─ Lab (extras) ─")
    panels = {
        "infer verify info doctor bench tune report": device,
        "listen": clinic,
        "audit train eval export calibrate data": lab,
    }
    for verbs, panel in panels.items():
        assert [line.split()[1] for line in panel.splitlines() if line[2:3].isalpha()] == verbs.split()
