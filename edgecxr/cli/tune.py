"""`edgecxr tune` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from edgecxr.cli.console import consoles, print_json
from edgecxr.cli.options import DeviceOption, EngineOption, JsonOption, ModelOption, PrecisionOption, QuietOption
from edgecxr.errors import UsageError


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
    from edgecxr.bench.pictures import golden_files, usable
    from edgecxr.bundle import load
    from edgecxr.cli import tables
    from edgecxr.device.tune import tune as search
    from edgecxr.engines.select import Asked
    from edgecxr.pictures.sample import sample_files
    from edgecxr.scoring import remembered
    from edgecxr.views import terminal

    opened = load(model)
    out, err = consoles()
    if forget:
        if paths:
            raise UsageError("--forget measures nothing; give no PATH with it")
        was_there = remembered.forget(opened)
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
            Asked(engine, device, precision),
            seconds=seconds,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )
    try:
        if as_json:
            print_json(found.to_json())
        else:
            out.print(tables.tuning_table(found))
            for reason in () if quiet else found.not_run:
                err.print(terminal.printable(f"not run: {reason}"))
    finally:  # even where nobody reads the terminal any more
        details = {"pictures_per_second": found.winner.rate, "gain": found.gain, "pictures": found.pictures}
        path = remembered.remember(opened, found.winner.configuration, details)
    if not quiet:
        gain = f", {found.gain:.2f} times as fast as by itself" if found.gain and found.gain != 1 else ""
        err.print(terminal.printable(f"auto takes the first line from here on{gain}; remembered in {path}"))
        if not paths:
            err.print("measured on the bundle's golden inputs; give PATH for pictures as this device meets them")
