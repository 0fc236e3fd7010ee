"""`edgecxr verify`, `info` and `doctor`: is it right here, what is it, and what is here."""

from pathlib import Path
from typing import Annotated

import typer

from edgecxr.cli.console import complain, consoles, print_json
from edgecxr.cli.options import DeviceOption, EngineOption, JsonOption, PrecisionOption
from edgecxr.errors import UsageError


def verify(
    bundle: Annotated[Path | None, typer.Argument(help="edge, full, or the path of a bundle (default: edge).")] = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    signed_by: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY.pub",
            help="First of all: the bundle must be signed with this key, by model_signing sign key (extra: signed).",
        ),
    ] = None,
    signature: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The signature (default: model.sig in the bundle, or beside it)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every hash of a bundle and its golden vectors on this device, on every engine that is installed.

    Exit codes: 0 right, 2 usage, 3 a hash or the signature is wrong, 4 nothing can run here or the extra isn't there,
    5 an answer is outside its tolerance.
    """
    from dataclasses import asdict

    from edgecxr.bundle import load
    from edgecxr.bundle import signature as signatures
    from edgecxr.cli import tables
    from edgecxr.device.verify import verify as run
    from edgecxr.engines.select import Asked

    if signature is not None and signed_by is None:
        raise UsageError("--signature says where a signature is, --signed-by KEY.pub whose it must be; give both")
    opened = load(bundle)
    signed = signed_by and signatures.check(opened, signature or signatures.find(opened), signed_by)
    result = run(opened, Asked(engine, device, precision), threads=threads)
    if as_json:
        print_json({**asdict(result), **({"signed": asdict(signed)} if signed else {}), "passed": result.passed})
    else:
        out, _ = consoles()
        if signed:
            out.print(f"signed by {signed_by}, SHA-256 {signed.key_sha256}: {signed.files} files", markup=False)
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
    bundle: Annotated[Path | None, typer.Argument(help="edge, full, or the path of a bundle (default: edge).")] = None,
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
