"""Makes the README's pictures from the phantoms in samples/ and the embedded model.

    python docs/pictures/make.py

terminal.svg is what `edgecxr infer samples` prints here; evidence.png is what `infer --overlay` draws of a phantom;
report.png is `edgecxr report` of the phantoms' records. Needs the extras cpu and report, and a Chromium. No film of a
patient stands in the repository, in these pictures either.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PHANTOM = "samples/phantom-1.png"
COLUMNS = 100  # of the terminal: the summary's longest line

FONT = 'ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace'
CELL, LINE, MARGIN = 9.0, 20, 16  # px: a column, a line, the frame
INK, GROUND = "#d7dae0", "#1e2127"
GREEN = "#98c379"


def printed(*arguments: str) -> str:
    """What the program prints to a terminal of COLUMNS columns, with its colours, and then to stderr."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    command = [sys.executable, "-m", "edgecxr", *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 4096):
                seen += piece
        except OSError:  # how Linux says that the other end was closed
            pass
        assert process.stderr is not None
        said = process.stderr.read()
    if process.returncode:
        raise SystemExit(said.decode())
    return (seen + said).decode().replace("\r\n", "\n")


def terminal() -> None:
    """docs/pictures/terminal.svg: each word in its column, whatever font there is; nothing is loaded from elsewhere."""
    from rich.text import Text

    shown = Text.from_ansi(f"$ edgecxr infer samples\n{printed('infer', 'samples')}")
    shown.stylize("green", 0, 1)
    lines = shown.split()
    width, height = 2 * MARGIN + CELL * max(map(len, lines)), 2 * MARGIN + LINE * len(lines)
    words = [f'<rect width="{width:g}" height="{height}" rx="8" fill="{GROUND}"/>']
    for row, line in enumerate(lines):
        for word in re.finditer(r"\S+", line.plain):
            column, text = word.start(), word.group()
            styles = " ".join(str(span.style) for span in line.spans if span.start <= column < span.end)
            kind = ' font-weight="bold"' * ("bold" in styles) + f' fill="{GREEN}"' * ("green" in styles)
            place = f'x="{MARGIN + CELL * column:g}" y="{MARGIN + LINE * row + 14}" textLength="{CELL * len(text):g}"'
            words.append(f"<text {place}{kind}>{html.escape(text)}</text>")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" '
        f'aria-label="edgecxr infer samples" font-family=\'{FONT}\' font-size="15" fill="{INK}">'
    )
    (HERE / "terminal.svg").write_text("\n".join([head, *words, "</svg>\n"]), encoding="utf-8")


def evidence() -> None:
    """docs/pictures/evidence.png: orange speaks for the answer, blue against it; smaller, and in 128 colours."""
    from PIL import Image

    import edgecxr

    drawn = Image.fromarray(edgecxr.Classifier(abstain=False).overlay(ROOT / PHANTOM))
    drawn = drawn.resize((800, round(drawn.height * 800 / drawn.width)), Image.Resampling.LANCZOS)
    drawn.quantize(128).save(HERE / "evidence.png", optimize=True)


def page() -> None:
    """docs/pictures/report.png: the page of the records of samples/, in a headless Chromium."""
    import io
    import tempfile

    from PIL import Image

    sys.path.insert(0, str(ROOT / "tests"))
    from browser import Browser

    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        records, shown = Path(folder) / "records.jsonl", Path(folder) / "page.html"
        for call in (["infer", "samples", "-q", "-o", records], ["report", records, "-o", shown]):
            subprocess.run([sys.executable, "-m", "edgecxr", *map(str, call)], cwd=ROOT, check=True)
        browser.open(shown, width=1000, height=1010)
        picture = Image.open(io.BytesIO(browser.screenshot()))
        picture.convert("RGB").quantize(64).save(HERE / "report.png", optimize=True)


if __name__ == "__main__":
    terminal()
    evidence()
    page()
