"""Makes the README's pictures from the phantoms in samples/ and the embedded model.

    python docs/pictures/make.py

terminal.svg is what `edgecxr infer samples` prints here; evidence.png is a phantom beside its evidence map. Needs the
extras cpu and eval. No film of a patient stands in the repository, in these pictures either.
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
COLOURS = {"green": "#98c379", "yellow": "#e5c07b"}


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
            kind = ' font-weight="bold"' * ("bold" in styles)
            kind += "".join(f' fill="{colour}"' for name, colour in COLOURS.items() if name in styles)
            place = f'x="{MARGIN + CELL * column:g}" y="{MARGIN + LINE * row + 14}" textLength="{CELL * len(text):g}"'
            words.append(f"<text {place}{kind}>{html.escape(text)}</text>")
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" '
        f'aria-label="edgecxr infer samples" font-family=\'{FONT}\' font-size="15" fill="{INK}">'
    )
    (HERE / "terminal.svg").write_text("\n".join([head, *words, "</svg>\n"]), encoding="utf-8")


def evidence() -> None:
    """docs/pictures/evidence.png: red speaks for the answer, blue against it."""
    import matplotlib as mpl
    import numpy as np
    from matplotlib import pyplot as plt
    from PIL import Image

    import edgecxr

    mpl.use("Agg")
    classifier = edgecxr.Classifier(abstain=False)  # a phantom is no film
    label = classifier.predict(ROOT / PHANTOM).label
    assert label is not None
    shares = classifier.evidence(ROOT / PHANTOM)[..., classifier.labels.index(label)]  # (h, w)
    film = np.asarray(Image.open(ROOT / PHANTOM))
    place = (0, film.shape[1], film.shape[0], 0)  # the map covers the whole picture, stretched as the input is
    limit = float(np.abs(shares).max())
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(-limit, limit), "RdBu_r")
    tint = scale.to_rgba(shares, alpha=0.75 * np.abs(shares) / limit)  # where there is none, the film is seen
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
    for axes, title in ((left, "A drawn phantom"), (right, f"What speaks for {label}")):
        axes.imshow(film, cmap="gray", extent=place)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    right.imshow(tint, extent=place, interpolation="nearest")
    bar = figure.colorbar(scale, ax=right, shrink=0.9)
    bar.set_label("share of its logit", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.savefig(HERE / "evidence.png", dpi=90, pil_kwargs={"optimize": True})
    plt.close(figure)


if __name__ == "__main__":
    terminal()
    evidence()
