"""`edgecxr infer --ray` on the command line: call, print, exit code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgecxr.cli.console import complain, consoles, print_json
from edgecxr.errors import UsageError

if TYPE_CHECKING:
    from edgecxr.cluster.run import Request


def infer_on_ray(
    address: str,
    request: Request,
    model: Path | None,
    output: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score on a cluster, and leave with the exit code."""
    from edgecxr.bundle import load
    from edgecxr.cli import tables
    from edgecxr.cluster import output as recording
    from edgecxr.cluster import pool, run
    from edgecxr.views import terminal

    pool.check_address(address)
    if not request.paths or output is None or str(output) == "-":
        raise UsageError("--ray takes pictures, folders or addresses, and writes into a folder; name it with -o DIR")
    place = recording.check(output, overwrite=overwrite, going_on=resume)
    place.check_apart(request.paths)
    bundle = load(model)
    _, err = consoles()
    bar = terminal.progress(err, "scoring")
    with bar:
        bar.disable = bar.disable or quiet
        task = bar.add_task("", total=None)
        job = run.score(
            request,
            bundle,
            place,
            address,
            overwrite=overwrite,
            going_on=resume,
            begin=lambda inputs, there: bar.update(task, total=inputs, completed=there),
            advance=lambda records: bar.advance(task, records),
        )
    summary = job.summary()
    if as_json:
        print_json(summary)
    if job.signal is not None:
        complain(f"stopped; the parts that were finished are kept, and --resume goes on: {place.part}")
    if not quiet and job.made_by:
        err.print(tables.run_summary(summary), markup=False)
    if job.signal is not None:
        raise typer.Exit(128 + job.signal)
    raise typer.Exit(1 if job.statuses.get("rejected") else 0)
