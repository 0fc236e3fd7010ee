"""`edgecxr report` on the command line. Parse, call, print, exit code; what it needs is loaded within it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgecxr.cli import extras
from edgecxr.cli.console import complain, consoles
from edgecxr.cli.options import DeviceOption, EngineOption, ModelOption, PrecisionOption
from edgecxr.errors import UsageError
from edgecxr.system import storage

MOST = 24


def report(
    records: Annotated[Path, typer.Argument(metavar="RECORDS", help="What infer wrote: a .jsonl or .csv file.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PAGE.html", help="Where the page goes.")],
    films: Annotated[
        Literal["uncertain", "abstained", "both"] | None,
        typer.Option(
            help="Put films into the page, drawn with their evidence: the least sure answers, what abstained, or both. "
            "A film is found by its record's path and must have its hash. The page then holds films of patients.",
        ),
    ] = None,
    most: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=500, help=f"Films at most (default: {MOST}).")
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a page that exists.")] = False,
) -> None:
    """Make one page of records: counts, probabilities, a table to sort and search, and where they come from.

    The page is one file, needs no server and makes no request. It holds the names of files that the records hold; no
    film, unless --films asks for some. The model is needed for films alone, and must be the one that made the records.

    Exit codes: 0 written, 2 usage or a file that holds no records, 3 bundle refused, 4 device, engine or extra
    unavailable, 70 the page can't be written on a full disk.
    """
    from edgecxr.records import reader

    asked = {"model": model, "device": device, "engine": engine, "precision": precision, "most": most}
    given = [f"--{name}" for name, value in asked.items() if value not in (None, "auto")]
    if given and not films:
        raise UsageError(f"no model runs for a page without films; leave out {', '.join(given)}, or give --films")
    storage.check_reports([output], (".html",), overwrite=overwrite)
    if storage.resolve(output) == storage.resolve(records):
        raise UsageError(f"the page can't take the place of its records: {output}")
    page: Any = extras.load_lab("edgecxr.records.page", "report")
    found = reader.read(records)
    drawn: list[Any] = []
    if films:
        from edgecxr.bundle import load
        from edgecxr.engines.select import Asked
        from edgecxr.scoring import overlays
        from edgecxr.scoring.session import open_session
        from edgecxr.views import terminal

        bundle = load(model)
        overlays.check_same_model(found, bundle)
        chosen = overlays.chosen(found, films, most or MOST)
        session = open_session(bundle, Asked(engine, device, precision), workers=1)
        bar = terminal.progress(consoles()[1], "films")
        with bar:
            task = bar.add_task("", total=len(chosen))
            for film in overlays.films(session, found, chosen):
                drawn.append(page.Film(*film))
                bar.advance(task)
    storage.write_reports([(output, page.page(found, drawn))])
    if drawn:
        inside = sum(film.jpeg is not None for film in drawn)
        without = f"; {len(drawn) - inside} couldn't be drawn, the page says why" if inside < len(drawn) else ""
        complain(f"the page holds {inside} films of patients{without}: {output}")
