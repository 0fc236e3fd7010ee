"""`edgecxr tune` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from edgecxr.cli_common import (
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    consoles,
    print_json,
)
from edgecxr.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from edgecxr.tune import Tuning


def tune(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH…]", help="Pictures as this device meets them (default: the golden inputs)."),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="About how long to measure.")] = 120.0,
    forget: Annotated[bool, typer.Option("--forget", help="Forget what was found here for this bundle.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find the fastest engine, precision, threads, workers and batch here, and remember them for this bundle.

    From then on `auto` takes them, on this hardware with these versions, wherever nothing that is asked for by name
    contradicts them. Only what passes verify is taken: answers stay within its tolerance of the bundle's golden ones,
    and needn't be those of another engine or precision to the last bit. Name a --precision to keep to it.
    """
    from edgecxr import terminal, tuned
    from edgecxr.bench.pictures import golden_files, sample_files, usable
    from edgecxr.bundle import load
    from edgecxr.tune import tune as search

    opened = load(model)
    out, err = consoles()
    if forget:
        if paths:
            raise UsageError("--forget measures nothing; give no PATH with it")
        was_there = tuned.forget(opened)
        if as_json:
            print_json({"forgotten": was_there})
        elif not quiet:
            err.print("forgotten" if was_there else "nothing was remembered for this bundle on this machine")
        return
    bar = terminal.progress(err, "tuning")
    with TemporaryDirectory() as scratch, bar:
        bar.disable = bar.disable or quiet
        task = bar.add_task("", total=None)
        files = sample_files(paths) if paths else golden_files(opened, Path(scratch))
        found = search(
            opened,
            usable(opened, files).files,
            device=device,
            engine=engine,
            precision=precision,
            seconds=seconds,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(found.to_json())
    else:
        out.print(_table(found))
        for reason in () if quiet else found.not_run:
            err.print(terminal.printable(f"not run: {reason}"))
    details = {"pictures_per_second": found.winner.rate, "gain": found.gain, "pictures": found.pictures}
    path = tuned.remember(opened, found.winner.configuration, details)
    if not quiet:
        gain = f", {found.gain:.2f} times as fast as by itself" if found.gain and found.gain != 1 else ""
        err.print(terminal.printable(f"auto takes the first line from here on{gain}; remembered in {path}"))
        if not paths:
            err.print("measured on the bundle's golden inputs; give PATH for pictures as this device meets them")


def _table(found: "Tuning") -> "Table":
    from rich.table import Table

    table = Table(title=f"{found.pictures} pictures, {found.seconds:.0f} s")
    for name in ("engine", "device", "precision"):
        table.add_column(name)
    for name in ("workers", "threads", "batch", "pictures/s", "spread", "other labels"):
        table.add_column(name, justify="right")
    table.add_column("")
    for candidate in found.candidates:
        c, rates = candidate.configuration, candidate.rates
        table.add_row(
            c.engine,
            c.device,
            c.precision,
            str(c.workers),
            str(c.threads),
            str(c.batch_size),
            f"{candidate.rate:.1f}" if rates else "",
            f"{min(rates):.1f} to {max(rates):.1f}" if rates else "",
            "" if candidate.label_changes is None else str(candidate.label_changes),
            "winner" if candidate is found.winner else candidate.left_out,
        )
    return table
