"""`edgecxr verify`, `info` and `doctor`: is it right here, what is it, and what is here."""

from pathlib import Path
from typing import Annotated

import typer

from edgecxr.cli.console import complain, consoles, print_json
from edgecxr.cli.options import DeviceOption, EngineOption, JsonOption, PrecisionOption


def verify(
    bundle: Annotated[Path | None, typer.Argument(help="full, edge, or the path of a bundle (default: full).")] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Check every hash of a bundle and its golden vectors on this device, on every engine that is installed.

    Exit codes: 0 right, 3 a hash is wrong, 4 nothing can run here, 5 an answer is outside its tolerance.
    """
    from dataclasses import asdict

    from edgecxr.bundle import load
    from edgecxr.cli import tables
    from edgecxr.device.verify import verify as run
    from edgecxr.engines.select import Asked

    result = run(load(bundle), Asked(engine, device, precision), threads=threads)
    if as_json:
        print_json({**asdict(result), "passed": result.passed})
    else:
        out, _ = consoles()
        out.print(f"{result.files} files, {result.bytes / 1e6:.1f} MB: every hash is right")
        out.print(tables.verification_table(result))
        for reason in result.not_run:
            out.print(f"not run: {reason}", markup=False)
        for note in result.notes:
            out.print(note, markup=False)
    if not result.passed:
        complain(f"golden vectors are outside their tolerance: {result.diagnosis}")
        raise typer.Exit(5)


def info(
    bundle: Annotated[Path | None, typer.Argument(help="full, edge, or the path of a bundle (default: full).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a bundle holds."""
    from edgecxr.bundle import load
    from edgecxr.cli import tables

    opened = load(bundle)
    if as_json:
        print_json(dict(opened.manifest))
    else:
        consoles()[0].print(tables.bundle_table(opened))


def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has, what is wrong with it, and how to repair that. Exit code 4 if scoring can't work."""
    from dataclasses import asdict

    from edgecxr.cli import tables
    from edgecxr.device.doctor import look

    checkup = look()
    if as_json:
        print_json({**asdict(checkup), "healthy": checkup.healthy})
    else:
        consoles()[0].print(tables.checkup_table(checkup))
    if not checkup.healthy:
        raise typer.Exit(4)
