"""The command line: a module a verb, each of which parses, calls, prints and gives the exit code."""

from edgecxr.cli.app import app, main

__all__ = ["app", "main"]
