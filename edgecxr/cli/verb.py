"""A verb whose help fits a terminal of 80 columns."""

import re
from typing import Any

from typer.core import TyperCommand

# What options take, in a word: typer's own names for it take half of the columns.
TYPES = {"int": "N", "int range": "N", "float": "X", "float range": "X", "path": "PATH", "str": "TEXT"}


class Verb(TyperCommand):
    """Paragraphs are wrapped anew, flags show no type, choices stand in the text, and other types are a word."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.help = re.sub(r"(?<!\n)\n(?!\n)", " ", self.help or "")
        parameters: list[Any] = list(self.params)
        for option in parameters:
            if option.param_type_name == "option" and option.metavar is None:
                # The second is typer's of before it had a click of its own.
                shown = getattr(option, "display_type", None) or option.make_metavar
                kind = shown(ctx).strip("<[]>").lower().removeprefix("list[").removesuffix("]")
                if getattr(option, "is_flag", False):
                    option.metavar = ""
                elif "|" in kind:
                    option.metavar, option.help = "NAME", f"{option.help} One of {kind.replace('|', ', ')}."
                else:
                    option.metavar = TYPES.get(kind)
        super().format_help(ctx, formatter)
