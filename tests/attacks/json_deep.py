"""A manifest nested 100,000 levels deep, which ends the stack of many a parser."""

from pathlib import Path

from attacks import forge

REFUSED = "isn't valid JSON (RecursionError)"


def make(folder: Path) -> Path:
    forge.bundle(folder)
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text[:-1] + ', "more": ' + "[" * 100_000 + "]" * 100_000 + "}")
    return folder
