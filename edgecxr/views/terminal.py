"""What a person reads: tables and sentences on a terminal. Gets finished results, decides nothing."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


def printable(text: str) -> Text:
    """`text` without control characters, line breaks or lone surrogates: a file's name must not steer the terminal."""
    return Text(escaped(text), overflow="fold")


def escaped(text: str) -> str:
    """The same as a string: what can't be printed stands as an escape sequence of Python's."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shortened(text: str, length: int) -> str:
    """`text`, escaped, in at most `length` characters: what is between its beginning and its end gives way.

    Numbers, by which pictures differ, stand at the end of names.
    """
    safe = escaped(text)
    if len(safe) <= length:
        return safe
    tail = (length - 1) // 2
    return f"{safe[: length - 1 - tail]}…{safe[len(safe) - tail :]}"


class _Rate(ProgressColumn):
    """Pictures (or steps) a second, as seen lately."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")


def progress(console: Console, what: str) -> Progress:
    """A transient progress bar with the rate and the time left; silent where stderr is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # Else rich moves what is printed on stdout, records among it, to this console, wherever stdout leads.
        redirect_stdout=sys.stdout.isatty(),
    )
