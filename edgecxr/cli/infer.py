"""`edgecxr infer` on the command line: parse, call, print, exit code."""

# Parameters of a typer command stay out of `from __future__ import annotations`: it reads them at run time.
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from edgecxr.cli.console import complain, consoles, log_to_stderr, print_json
from edgecxr.cli.options import (
    DeviceOption,
    EngineOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    ThreadsOption,
    VerboseOption,
)
from edgecxr.errors import UsageError
from edgecxr.system import streams

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from edgecxr.clinic.outbox import Outbox
    from edgecxr.records.prediction import Prediction
    from edgecxr.scoring.folder import Job


def infer(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Pictures and folders of pictures.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Write records to a .jsonl, .csv or .parquet file (extra: parquet); - is JSON lines on stdout.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the output of a run that was stopped, or begin one. A file is finished where the output "
            "has its path, length and time of change; one that changed, or couldn't be read, is scored again, and its "
            "new record replaces the old one. An output of another bundle or engine is refused.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an output file that exists, once the new one is whole.")
    ] = False,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin", help="Stay loaded: a path a line on stdin, for each at once a record a line on stdout."
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Stay, and score what arrives in a folder, each file once it is whole; go on with the output.",
        ),
    ] = False,
    poll: Annotated[
        bool, typer.Option("--poll", help="With --watch, look at the folder again and again: for network shares.")
    ] = False,
    recursive: Annotated[bool, typer.Option(help="Walk into folders of folders.")] = True,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first rejected picture.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take only this many of the pictures, the first, finished ones included.")
    ] = None,
    name_by: Annotated[
        Literal["path", "hash"],
        typer.Option("--id", help="What stands in a record's path: the file's name, or the hash of what it holds."),
    ] = "path",
    dicom_out: Annotated[
        Path | None,
        typer.Option(
            "--dicom-out",
            metavar="DIR",
            help="Write a structured report for each DICOM film that was scored or abstained from into this folder, "
            "named by its UID, beside the records. It holds the patient's name. With --resume, what is missing there "
            "is written. Extra: dicom-out.",
        ),
    ] = None,
    heat_map: Annotated[
        bool,
        typer.Option(
            "--heat-map",
            help="With --dicom-out: also a picture of the film and the evidence for its class. It points at places.",
        ),
    ] = False,
    overlay: Annotated[
        Path | None,
        typer.Option(
            "--overlay",
            metavar="DIR",
            help="Write a PNG of each answered picture into this folder, named by its SHA-256: the film, and beside it "
            "the evidence for its answer, which is no segmentation. With --resume, of what is still to score.",
        ),
    ] = None,
    show_names: Annotated[
        bool, typer.Option("--show-names", help="With --overlay: each picture shows its file's name.")
    ] = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Run the golden vectors first; exit 5 where the answers are wrong here.")
    ] = False,
    no_abstain: Annotated[
        bool,
        typer.Option("--no-abstain", help="Give every picture a label, those too that are too unlike chest films."),
    ] = False,
    abstain_at: Annotated[
        float | None,
        typer.Option(
            metavar="THRESHOLD", help="Give no label from this ood_score on, in place of the bundle's threshold."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option("-b", "--batch-size", help="Pictures a batch.")] = None,
    workers: Annotated[int | None, typer.Option("-j", "--workers", help="Batches in hand at a time.")] = None,
    threads: ThreadsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run's summary as JSON on stdout.")] = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score pictures and folders; one record for each file, whatever happens to the others.

    A picture that is too unlike frontal chest films abstains: its record has its scores and no label, where the bundle
    can tell.

    While a run lasts, its records are in the .jsonl itself or, for a table and with --overwrite, in FILE.part: nothing
    that was written is lost to a kill, and at most a second of it to a power cut. --resume goes on from there.

    Exit codes: 0 all scored or abstained, 1 some rejected, or without the result that --dicom-out should have, 2 usage,
    3 bundle refused, 4 device, engine or extra unavailable, 5 wrong golden vectors, 70 records can't be kept, 130 and
    143 stopped with everything in hand written.
    """
    from edgecxr.bundle import load
    from edgecxr.clinic import outbox
    from edgecxr.clinic import watch as watching
    from edgecxr.device.golden import self_test as check_golden
    from edgecxr.engines.select import Asked
    from edgecxr.records import output as recording
    from edgecxr.scoring import folder, overlays
    from edgecxr.scoring import stdin as resident
    from edgecxr.scoring.abstention import Wish
    from edgecxr.scoring.session import open_session
    from edgecxr.views import terminal

    if verbose:
        log_to_stderr()
    to_stdout = stdin or str(output) == "-"
    if stdin and (paths or resume or overwrite or limit or str(output) not in ("None", "-")):
        raise UsageError("--stdin takes paths from stdin and writes to stdout: no PATH, -o FILE or --limit beside it")
    if not stdin and not paths:
        raise UsageError("no pictures were named; give files, folders, or --stdin")
    if watch and (stdin or output is None or to_stdout or recording.is_table(output) or len(paths or ()) != 1):
        raise UsageError("--watch takes one folder and writes JSON lines; name them with -o FILE.jsonl")
    if watch and (overwrite or limit or fail_fast):
        raise UsageError("--watch goes on with its output, and has no end: no --overwrite, --limit or --fail-fast")
    if poll and not watch:
        raise UsageError("--poll says how --watch looks at a folder; give both")
    resume = resume or watch
    if as_json and to_stdout:
        raise UsageError("--json and records on stdout both want stdout; write the records to a file")
    if resume and (output is None or to_stdout):
        raise UsageError("--resume goes on with a file of records; name it with -o FILE")
    if stdin and dicom_out is not None:
        raise UsageError("--dicom-out goes with files and folders, not with --stdin")
    if heat_map and dicom_out is None:
        raise UsageError("--heat-map is a picture among results; name their folder with --dicom-out DIR")
    wish = Wish(not no_abstain, abstain_at)
    if overlay is not None and (stdin or watch):
        raise UsageError("--overlay goes with files and folders, not with --stdin or --watch")
    if show_names and (overlay is None or name_by == "hash"):
        raise UsageError("--show-names puts names on the pictures of --overlay DIR, and --id hash keeps names out")
    if to_stdout:
        streams.check_stdout()
    place = None if output is None or to_stdout else recording.check(output, overwrite=overwrite, going_on=resume)
    if dicom_out is not None:
        outbox.check(dicom_out)
    if overlay is not None:
        overlays.check(overlay, going_on=resume or overwrite)
    inputs = None
    if watch and paths and place:
        inputs = watching.find(paths[0], place, recursive=recursive, own=dicom_out)
    elif not stdin:
        own = [made for made in (dicom_out, overlay) if made is not None]
        inputs = folder.find(paths or [], place, recursive=recursive, limit=limit, own=own)
    session = open_session(
        load(model),
        Asked(engine, device, precision),
        workers=workers,
        threads=threads,
        batch_size=batch_size,
        wish=wish,
    )
    if self_test:
        passed = check_golden(session.bundle, session.artifact, session.engine)
        log.info("self-test passed: %s", passed.off_by)
    options = folder.Options(name_by, fail_fast)
    out, err = consoles()
    box = None if dicom_out is None else outbox.open_outbox(dicom_out, session, heat_map=heat_map)
    if inputs is None:
        job = resident.serve(session, options)
    else:
        job = folder.prepare(session, inputs, place, options, overwrite=overwrite, going_on=resume, to_stdout=to_stdout)
        for note in () if quiet else job.notes:
            err.print(terminal.printable(f"resumed: {note}"))
        if watch and paths and place:
            look = partial(watching.watch, job, inputs, paths[0], place, poll=poll, recursive=recursive, own=dicom_out)
            if box is None:
                look()
            else:
                _with_results(job, box, lambda tell: look(tell=tell))
            _report(job, box, out, err, as_json=as_json, quiet=quiet)
            raise typer.Exit(128 + (job.signal or 0))
        bar = terminal.progress(err, "scoring")
        with bar:
            bar.disable = bar.disable or quiet
            task = bar.add_task("", total=len(job.todo))
            drawing = None if overlay is None else overlays.Folder(overlay, session.bundle, show_names).add
            if box is None:
                folder.score(job, lambda: bar.advance(task), look=drawing)
            else:
                _with_results(job, box, lambda tell: folder.score(job, lambda: bar.advance(task), tell, drawing))
    _report(job, box, out, err, as_json=as_json, quiet=quiet)
    if job.signal is not None:
        raise typer.Exit(128 + job.signal)
    raise typer.Exit(1 if job.tally.statuses["rejected"] or (box is not None and box.incomplete) else 0)


def _with_results(job: "Job", box: "Outbox", score: "Callable[[Callable[[Path, Prediction], object]], object]") -> None:
    """Score, and write each film's results once its record is; first of all what an earlier run didn't."""
    from edgecxr.scoring import folder

    try:
        for path, prediction in folder.earlier(job):
            box.add(path, prediction, earlier=True)
        score(box.add)
    finally:
        box.close()


def _report(job: "Job", box: "Outbox | None", out: "Console", err: "Console", *, as_json: bool, quiet: bool) -> None:
    from edgecxr.cli import tables
    from edgecxr.views import terminal

    summary, tally = job.summary(), job.tally
    if box is not None:
        summary["dicom_out"] = box.summary()
    if as_json:
        print_json(summary)
    elif job.output is None:
        rows = [*tally.shown, *tally.rejected]
        out.print(tables.predictions_table(rows, job.session.bundle.labels, summary["records"]))
    if job.left_in is not None:
        complain(f"stopped; the records are kept, and --resume goes on: {job.left_in}")
    for complaint in () if box is None else box.complaints:
        complain(f"no result: {complaint}")
    if quiet:
        return
    err.print(tables.run_summary(summary), markup=False)
    if box is not None:
        err.print(tables.results_summary(summary["dicom_out"]), markup=False)
    if job.output is not None:  # else they stand in the table
        rejected = [p for p in [*tally.shown, *tally.rejected] if p.status == "rejected"]
        for prediction in rejected[:10]:
            err.print(terminal.printable(f"rejected: {prediction.path}: {prediction.error_message}"))
        more = tally.statuses["rejected"] - len(rejected[:10])
        if more > 0:
            err.print(f"and {more} more rejected; each has its record")
