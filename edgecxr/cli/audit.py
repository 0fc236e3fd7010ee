"""`edgecxr audit` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgecxr.cli import extras
from edgecxr.cli.console import print_json
from edgecxr.errors import GateError, UsageError
from edgecxr.system import storage

SUFFIXES = (".json", ".html")


def audit(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder per class, or a folder with a manifest.csv.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="OTHER", help="Look for copies of DATA's films in this data too; may be repeated."),
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only pictures with COLUMN=VALUE in the manifest.")] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option("-o", "--output", help="Write the report: .json, or .html for a page; may be repeated."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")] = False,
    workers: Annotated[int | None, typer.Option("-j", "--workers", min=1, help="Threads (default: all CPUs).")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the folds and the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Look for leaks, duplicates and shortcuts in labelled pictures, and say what to do (extra: eval).

    Exit codes: 0 no split leaks, 2 usage or data that can't be used, 4 the extra isn't there, 5 a split leaks,
    70 a report can't be written on a full disk.
    """
    from edgecxr.lab.dataset import read_dataset
    from edgecxr.system import machine
    from edgecxr.views import terminal

    targets = output or []
    storage.check_reports(targets, SUFFIXES, overwrite=overwrite)
    conditions = extras.conditions(where)
    dataset = read_dataset(data)
    extras.account_for(dataset.account)
    dataset = dataset.where(conditions) if conditions else dataset
    others = {}
    for folder in against or []:
        name = folder.resolve().name
        if name in others:
            raise UsageError(f"--against expects folders of different names, got twice: {name}")
        others[name] = read_dataset(folder)
        extras.account_for(others[name].account)
    audits = extras.load_lab("edgecxr.lab.audit", "eval")
    # A page that can't be made shouldn't be noticed after the work.
    pages = extras.load_lab("edgecxr.lab.audit.page", "eval")
    tables = extras.load_lab("edgecxr.lab.audit.table", "eval")
    err = Console(stderr=True, highlight=False)
    bar = terminal.progress(err, "{task.description}")
    with bar:
        task = bar.add_task("reading", total=None)
        report = audits.audit(
            dataset,
            others,
            workers=workers or machine.cpus(),
            seed=seed,
            progress=lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    report["where"] = conditions
    text_of = {".json": storage.json_text, ".html": pages.page}
    try:
        if as_json:
            print_json(report)
        else:
            Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(tables.findings_view(report))
            if not targets:
                err.print("the files are in the report: -o FILE.html or -o FILE.json writes it")
    finally:  # even where nobody reads the terminal any more
        storage.write_reports((path, text_of[path.suffix.lower()](report)) for path in targets)
    if report["leaks"]:
        leaks = [f"{f['title'].lower()}: {f['figure']}" for f in report["findings"] if f["severity"] == "leak"]
        raise GateError(f"no split may share a film or a patient with another, found {'; '.join(leaks)}")
