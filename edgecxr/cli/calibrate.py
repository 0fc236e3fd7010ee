"""`edgecxr calibrate` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

from pathlib import Path
from typing import Annotated

import typer

from edgecxr.cli import extras
from edgecxr.cli.console import consoles, print_json
from edgecxr.cli.options import DeviceOption, EngineOption, JsonOption, ModelOption, PrecisionOption, ThreadsOption


def calibrate(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="LOCAL…", help="The site's films: a folder per class, or one with a manifest.csv."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The site's bundle, a folder SITE.edgecxr.")],
    model: ModelOption = None,
    site: Annotated[
        str | None, typer.Option(help="Whose films they are, as the bundle says it (default: the output's name).")
    ] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only pictures with COLUMN=VALUE in the manifest.")] = None,
    ignore_label: Annotated[list[str] | None, typer.Option(help="Leave out a label; may be repeated.")] = None,
    kept: Annotated[float, typer.Option(help="Share of each class's films that is answered.")] = 0.995,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    workers: Annotated[int | None, typer.Option("-j", "--workers", help="Batches in hand at a time.")] = None,
    threads: ThreadsOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the halves, and of the bootstrap.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fit temperature, operating points and abstention on a site's labelled films; the network stays (extra: eval).

    Half of the films fit, by group, and half report. What each claim needs is said first; what these films can't claim
    is said and isn't written.

    Exit codes: 0 written, 2 usage or films that claim nothing, 3 bundle refused, 4 device, engine or extra unavailable,
    5 the bundle doesn't give its own golden answers here, 70 a full disk.
    """
    from edgecxr.engines.select import Asked
    from edgecxr.views import terminal

    job = extras.load_lab("edgecxr.lab.calibrate", "eval")
    tables = extras.load_lab("edgecxr.cli.tables", "eval")
    name = site if site is not None else output.stem
    conditions, ignored = extras.conditions(where), ignore_label or []
    out, err = consoles()
    embedded = model is None or str(model) == "-"
    bundle = job.check_call(None if embedded else model, output, name, kept, overwrite)
    films = job.read_films(bundle, data, output, conditions, ignored, kept=kept, seed=seed)
    extras.account_for(films.dataset.account)
    err.print(tables.claims_table(films))
    bar = terminal.progress(err, "scoring")
    with bar:
        task = bar.add_task("", total=None)
        made, told = job.calibrate(
            bundle,
            films,
            output,
            name,
            asked=Asked(engine, device, precision),
            shape={"workers": workers, "threads": threads},
            kept=kept,
            overwrite=overwrite,
            advance=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(told)
        return
    out.print(tables.site_table(told))
    for sentence in told["not_claimed"]:
        out.print(terminal.printable(sentence))
    out.print(terminal.printable(f"{made.name} {made.version}, digest {made.digest[:16]}: {output}"))
