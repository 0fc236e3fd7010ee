"""The verbs of `edgecxr data`: kaggle, import, show. Parse and call; what they need is loaded within them."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgecxr.cli import extras
from edgecxr.cli.verb import Verb
from edgecxr.errors import DataError
from edgecxr.system import storage
from edgecxr.system.signals import StopOnSignal

app = typer.Typer(no_args_is_help=True, help="Labelled pictures: fetch them from Kaggle, import them, look at them.")

FolderOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="The label folders, in a folder that is absent or empty.")
]
LungOpacityOption = Annotated[
    bool, typer.Option("--lung-opacity/--no-lung-opacity", help="Keep the later releases' extra class Lung_Opacity.")
]
CopyOption = Annotated[
    bool, typer.Option("--copy", help="Copy the pictures even where hard links, which take no room, would do.")
]


@app.command(cls=Verb)
def kaggle(
    handle: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The data set; OWNER/NAME/versions/N for one of its releases.")
    ],
    output: FolderOption,
    lung_opacity: LungOpacityOption = False,
    copy: CopyOption = False,
) -> None:
    """Download the COVID-19 Radiography Database with kagglehub and import it into label folders (extra: kaggle).

    Exit codes: 2 no such data set, or not laid out like that database; 4 no extra, no network or no credentials.
    """
    from edgecxr.lab.data.kaggle import download
    from edgecxr.lab.data.radiography import check_target

    check_target(output)  # before a gigabyte is fetched
    folder = download(handle)
    try:
        _import(folder, output, lung_opacity, copy)
    except DataError as error:
        raise DataError(f"{error} (the download stays in kagglehub's cache: {folder})") from None


@app.command(name="import", cls=Verb)
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The unpacked COVID-19 Radiography Database, of any release.")
    ],
    output: FolderOption,
    lung_opacity: LungOpacityOption = False,
    copy: CopyOption = False,
) -> None:
    """Turn an unpacked COVID-19 Radiography Database into label folders; masks and spreadsheets stay where they are."""
    _import(source, output, lung_opacity, copy)


def _import(source: Path, output: Path, lung_opacity: bool, copy: bool) -> None:
    from edgecxr.lab.data.radiography import EXTRA, import_radiography
    from edgecxr.views import terminal

    stopped = StopOnSignal()
    bar = terminal.progress(Console(stderr=True, highlight=False), "importing")
    with stopped, bar:
        task = bar.add_task("", total=None)

        def advance(done: int, total: int) -> None:
            if stopped.signal is not None:
                raise typer.Exit(128 + stopped.signal)  # the importer clears away what it wrote
            bar.update(task, completed=done, total=total)

        result = import_radiography(source, output, lung_opacity=lung_opacity, copy=copy, advance=advance)
    total = sum(result.counts.values())
    kind = "hard links" if result.hard_links == total else f"{total - result.hard_links} copied"
    _say(f"{total} pictures in {result.folder} ({kind})")
    for label, count in result.counts.items():
        _say(f"  {label} {count}")
    aside = {
        f"pictures of {EXTRA} (--lung-opacity keeps them)": result.dropped,
        "masks": result.masks,
        "sheets and notes": result.sheets,
        "links, which are not followed": result.links,
    }
    left = ", ".join(f"{count} {what}" for what, count in aside.items() if count)
    if left:
        _say(f"left aside: {left}")
    place = shlex.quote(str(output))
    _say(f"next: edgecxr audit {place}", err=True)
    _say(f"      edgecxr data show {place} -o sheet.png", err=True)


@app.command(cls=Verb)
def show(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A folder per class, or a folder with a manifest.csv.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Write the sheet to a .png file.")],
    per_class: Annotated[int, typer.Option(min=1, max=20, help="Pictures of each class.")] = 5,
    seed: Annotated[int, typer.Option(help="Decides which pictures are drawn.")] = 0,
    where: Annotated[list[str] | None, typer.Option(help="Only pictures with COLUMN=VALUE in the manifest.")] = None,
    network_input: Annotated[
        bool, typer.Option("--network-input", help="Show them as the model's network sees them, not as they are.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option("-m", "--model", help="full, edge, or a bundle whose --network-input is shown."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a sheet that exists.")] = False,
) -> None:
    """Draw a contact sheet: for each class a row of pictures, taken at random (extra: eval)."""
    from edgecxr.bundle import load
    from edgecxr.lab.data import sheet as sheets
    from edgecxr.lab.dataset import read_dataset

    storage.check_reports([output], (".png",), overwrite=overwrite)
    sheets.matplotlib_figure()
    conditions = extras.conditions(where)
    dataset = read_dataset(data)
    extras.account_for(dataset.account)
    contract = load(model).preprocessing if network_input else None
    sheet = sheets.draw(dataset.where(conditions) if conditions else dataset, per_class, seed, contract)
    about = [data.resolve().name, *(f"{column}={value}" for column, value in conditions.items()), f"seed {seed}"]
    if contract is not None:
        about.append(f"network input {contract.width} x {contract.height}")
    storage.write_reports([(output, sheets.render(sheet, " · ".join(about)))])
    _say(f"{sum(map(len, sheet.rows.values()))} of {sum(sheet.counts.values())} pictures on {output}")
    for file, reason in sheet.unreadable[:10]:
        _say(f"passed over: {file}: {reason}", err=True)
    if len(sheet.unreadable) > 10:
        _say(f"and {len(sheet.unreadable) - 10} more passed over", err=True)


def _say(line: str, *, err: bool = False) -> None:
    """One line; a file's name must not steer the terminal."""
    from edgecxr.views.terminal import printable

    typer.echo(printable(line).plain, err=err)
