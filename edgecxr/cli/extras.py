"""What the verbs of the lab share: the extra that a module needs, and conditions on a manifest's columns."""

import os
from importlib import import_module
from typing import Any

import typer

from edgecxr.errors import UnavailableError, UsageError


def load_lab(module: str, extra: str) -> Any:
    """A module of the lab, or one sentence that says which extra brings it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow greets on stderr
    try:
        return import_module(module)
    except ImportError as error:
        raise UnavailableError(
            f"this needs the extra {extra!r}; run: pip install 'edgecxr[cpu,{extra}]' ({error})"
        ) from None


def account_for(account: str) -> None:
    """Say on stderr what of a data folder isn't used; `account` is empty where all of it is."""
    from edgecxr.views.terminal import printable

    if account:
        typer.echo(printable(account).plain, err=True)


def conditions(where: list[str] | None) -> dict[str, str]:
    pairs = [condition.partition("=") for condition in where or []]
    for column, equals, _ in pairs:
        if not (column and equals):
            raise UsageError(f"--where expects COLUMN=VALUE, got {column!r}")
    return {column: value for column, _, value in pairs}
