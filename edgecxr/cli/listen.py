"""`edgecxr listen` on the command line: parse, call, print, exit code."""

# Parameters of a typer command stay out of `from __future__ import annotations`: it reads them at run time.
import gc
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Any

import typer

from edgecxr.cli.console import consoles, log_to_stderr, print_json
from edgecxr.cli.extras import load_lab
from edgecxr.cli.options import (
    DeviceOption,
    EngineOption,
    JsonOption,
    ModelOption,
    PrecisionOption,
    ThreadsOption,
    VerboseOption,
)


def listen(
    spool: Annotated[
        Path, typer.Option("--spool", help="Folder of the node's own, in which films lie until they are done.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes one that is free.")] = 11112,
    aet: Annotated[str, typer.Option(help="AE title by which senders call the node.")] = "EDGECXR",
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="AET@HOST", help="Who may send; may be given again. Without, this machine alone."),
    ] = None,
    send: Annotated[
        list[str] | None,
        typer.Option(metavar="AET@HOST:PORT", help="Where results go; may be given again."),
    ] = None,
    tls: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="CERT KEY", help="Take TLS connections only, as the server of this certificate (PEM)."),
    ] = None,
    send_tls: Annotated[
        Path | None,
        typer.Option(metavar="CA", help="Send results by TLS alone, to hosts that these certificates vouch for (PEM)."),
    ] = None,
    heat_map: Annotated[
        bool, typer.Option("--heat-map", help="Send a picture of film and evidence beside each report.")
    ] = False,
    keep_days: Annotated[
        float, typer.Option(min=0, help="How long a film stays in the spool once its results are sent.")
    ] = 3.0,
    keep_free: Annotated[
        float, typer.Option(min=0, help="GB of the disk that stay free; films are refused before.")
    ] = 1.0,
    show_status: Annotated[bool, typer.Option("--status", help="Show the queue of a spool, and exit.")] = False,
    requeue: Annotated[
        bool, typer.Option("--requeue", help="Have what was given up tried again, by the node that runs or the next.")
    ] = False,
    model: ModelOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Run the golden vectors first; exit 5 where the answers are wrong here.")
    ] = False,
    workers: Annotated[int | None, typer.Option("-j", "--workers", help="Films in hand at a time.")] = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Take chest films over the network (DICOM C-STORE), score them, and send results to a PACS.

    A film is on the disk before its sender is told that it was taken. A line on stdout says that the node is ready;
    what is refused is said on stderr. SIGTERM and Ctrl-C finish what is in hand; the next start goes on with the rest.

    Exit codes: 2 usage, 3 bundle refused, 4 device, engine or extra unavailable, 5 wrong golden vectors, 130 and 143
    stopped.
    """
    if show_status or requeue:
        _look(spool, requeue=requeue, as_json=as_json)
        return
    service = load_lab("edgecxr.clinic.service", "node")
    node, sending = load_lab("edgecxr.clinic.node", "node"), load_lab("edgecxr.clinic.send", "node")
    load_lab("highdicom", "node")  # which takes a second, and not of the first film's time
    from edgecxr.bundle import load
    from edgecxr.clinic.spool import Room, Spool
    from edgecxr.device.golden import self_test as check_golden
    from edgecxr.engines.select import Asked
    from edgecxr.scoring.session import open_session
    from edgecxr.system.signals import StopOnSignal

    _silence()
    log_to_stderr("DEBUG" if verbose else "WARNING")
    targets = tuple(dict.fromkeys(sending.Target.parse(text) for text in send or ()))
    address = node.Address(
        node.check_aet(aet),
        port,
        tuple(node.Peer.parse(text) for text in allow or ()),
        node.tls_context(*tls) if tls else None,
    )
    outgoing = sending.tls_context(send_tls, tls) if send_tls else None
    told: SimpleQueue[None] = SimpleQueue()  # whose `put` a signal's handler may call
    stopped = StopOnSignal(lambda: told.put(None))

    def wait(seconds: float) -> bool:
        with suppress(Empty):
            told.get(timeout=seconds)
        return stopped.signal is not None

    with stopped, Spool(spool, Room(keep_days, int(keep_free * 1e9))).held() as held:
        session = open_session(load(model), Asked(engine, device, precision), workers=workers, threads=threads)
        if self_test:
            check_golden(session.bundle, session.artifact, session.engine)
        settings = service.Settings(address, targets, heat_map=heat_map, send_tls=outgoing)
        gc.collect()
        gc.freeze()  # or each full collection, which pynetdicom's server asks for, looks through all that was imported
        running = service.Node(session, held, settings)
        try:
            print(f"ready: {aet} on port {running.port}", flush=True)
            running.keep_going(wait)
        finally:
            running.close()
    raise typer.Exit(128 + (stopped.signal or 0))


def _silence() -> None:
    """What libraries of DICOM warn of and log quotes what they read, and that is of patients."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _look(folder: Path, *, requeue: bool, as_json: bool) -> None:
    from edgecxr.clinic import spool

    if requeue:
        count = spool.request_requeue(folder)
        print(f"{count} films are tried again" if count else "nothing was given up")
        return
    found = spool.status(folder)
    if as_json:
        print_json(found)
        return
    out, _ = consoles()
    for line in _lines(found):
        out.print(line, markup=False)


def _lines(found: dict[str, Any]) -> list[str]:
    films = found["films"]
    lines = [
        f"to score   {films['received']}",
        f"to send    {films['scored']}",
        f"done       {films['done']}",
        f"failed     {films['failed']}",
    ]
    lines += [f"  {count} {reason}" for reason, count in sorted(found["reasons"].items())]
    for target, counts in found["targets"].items():
        lines.append(f"{target}: {counts['sent']} sent, {counts['waiting']} wait, {counts['given_up']} given up")
    lines.append(f"sent again, for want of an answer: {found['sent_again']}")
    if found["unreadable"]:
        lines.append(f"without a readable journal: {found['unreadable']}")
    return [*lines, f"free on the disk: {found['disk_free_bytes'] / 1e9:.1f} GB"]
