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
    records: Annotated[
        Path,
        typer.Argument(
            metavar="RECORDS|BUNDLE", help="What infer wrote, a .jsonl, .csv or .parquet file; or a bundle, full, edge."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="PAGE.html|DIR", help="Where the page, or a bundle's folder, goes."),
    ],
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
    evidence: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="FILE",
            help="Of a bundle: what eval, audit or bench wrote with -o, or pytest --junitxml, to stand in it with its "
            "hash; may be repeated.",
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="OLD", help="Of a bundle: say what changed since an earlier one.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=86_400,
            help="Of a bundle: about how long to measure speed, where --with brings no bench (default: 20; 0: not).",
        ),
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a page, or a folder of a bundle, that exists.")
    ] = False,
) -> None:
    """Make one page of records, or the technical file of a bundle.

    Of records: counts, probabilities, a table to sort and search, and where they come from. The page is one file, needs
    no server and makes no request. It holds the names of files that the records hold; no film, unless --films asks for
    some. The model is needed for films alone, and must be the one that made the records.

    Of a bundle: a folder with a page, the same as JSON, and two bills of materials (CycloneDX). It holds what there is
    to show for research weights, each claim with the command and hash that it came from, and claims no conformity.

    Exit codes: 0 written, 2 usage or a file that can't be used, 3 bundle refused, 4 device, engine or extra
    unavailable, 5 written, and a golden answer is wrong here, 70 nothing can be written on a full disk.
    """
    from edgecxr.cli import technical
    from edgecxr.records import reader

    if technical.is_bundle(records):
        of_records = {"--films": films, "--most": most, "--model": model}
        if named := [option for option, value in of_records.items() if value is not None]:
            raise UsageError(f"{', '.join(named)} goes with records, and this is a bundle: {records}")
        technical.write(
            records, output, evidence or [], against, seconds, (engine, device, precision), overwrite=overwrite
        )
        return
    of_bundle = {"--with": evidence, "--against": against, "--seconds": seconds}
    if named := [option for option, value in of_bundle.items() if value not in (None, [])]:
        raise UsageError(f"{', '.join(named)} goes with a bundle, and this is none: {records}")
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
