"""`edgecxr report` of a bundle: its technical file. What the verb of cli/report.py calls where a bundle was given."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgecxr.cli import extras
from edgecxr.cli.console import consoles
from edgecxr.errors import GateError, StorageError, UsageError
from edgecxr.system import storage

if TYPE_CHECKING:
    from edgecxr.bundle import Bundle
    from edgecxr.engines.select import Asked

SECONDS = 20.0  # of the bench: each artifact and engine is measured for seconds
DATA = "technical-file.json"  # by which a folder is known as one that may be replaced


def is_bundle(path: Path) -> bool:
    """Whether `path` names a bundle, and not a file of records."""
    from edgecxr.bundle import NAMED, SUFFIX

    return str(path) in NAMED or path.is_dir() or path.suffix.lower() in (SUFFIX, ".onnx")


def write(
    path: Path,
    output: Path,
    given: Sequence[Path],
    against: Path | None,
    seconds: float | None,
    asked: "tuple[Any, Any, Any]",
    *,
    overwrite: bool,
) -> None:
    """Write the technical file of the bundle at `path` into the folder `output`, whole or not at all.

    Raises GateError, after it is written, where a golden answer is wrong here.
    """
    from edgecxr.bundle import load
    from edgecxr.engines.select import Asked
    from edgecxr.views import terminal

    _check(output, overwrite=overwrite)
    evidence: Any = extras.load_lab("edgecxr.dossier.evidence", "report")
    files: Any = extras.load_lab("edgecxr.dossier.file", "report")
    bundle = load(path)
    old = None if against is None else load(against)
    sections = [evidence.given(each, bundle) for each in given if each.suffix.lower() != ".xml"]
    tests = [evidence.tested(each) for each in given if each.suffix.lower() == ".xml"]
    if len(tests) > 1:
        raise UsageError(f"one file of pytest's results stands in a technical file, got {len(tests)}: give one of them")
    measured = any(section.title.startswith("Speed") for section in sections)
    if measured and seconds is not None:
        raise UsageError("--with brings a report of bench, and --seconds asks for a new one; give one of them")
    wanted = Asked(*asked)
    reports: dict[str, bytes] = {}
    bar = terminal.progress(consoles()[1], "{task.description}")
    task = bar.add_task("golden answers", total=None)
    with bar:
        verified, found, failed = _verified(evidence, bundle, wanted, files.VERIFIED)
        reports[files.VERIFIED] = found
        if not measured and seconds != 0:
            speed, found = _benched(
                evidence, bundle, wanted, seconds or SECONDS, files.BENCHED,
                lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
            )  # fmt: skip
            sections.insert(0, speed)
            reports[files.BENCHED] = found
        bar.update(task, description="writing", completed=0, total=None)
        contents = files.contents(bundle, files.Found(verified, tuple(sections), reports, *tests), old)
    _publish(output, contents, overwrite=overwrite)
    if failed:
        raise GateError(f"the technical file is written, and says that golden answers are wrong here: {failed}")


def _check(output: Path, *, overwrite: bool) -> None:
    target = storage.resolve(output)
    if output.suffix.lower() in (".html", ".json"):
        raise UsageError(f"the technical file of a bundle is a folder, got the name of a file: {output}")
    if not target.parent.is_dir() or (target.exists() and not target.is_dir()):
        raise UsageError(f"the technical file can't be written there, no such folder or not a folder: {output}")
    if target.exists() and any(target.iterdir()):
        if not overwrite:
            raise UsageError(f"the folder holds something; give --overwrite to replace a technical file: {output}")
        if not (target / DATA).is_file():
            raise UsageError(f"--overwrite replaces a technical file, a folder with {DATA}, and this is none: {output}")
    storage.check_writable(output)


def _command(verb: str, bundle: "Bundle", asked: "Asked", *more: str) -> str:
    options = {"--engine": asked.engine, "--device": asked.device, "--precision": asked.precision}
    named = [word for option, value in options.items() if value != "auto" for word in (option, value)]
    return shlex.join(["edgecxr", *verb.split(), bundle.path.name, *named, *more])


def _verified(evidence: Any, bundle: "Bundle", asked: "Asked", file: str) -> tuple[Any, bytes, str]:
    from edgecxr.device.verify import verify

    found = verify(bundle, asked)
    section, data = evidence.verified(found, _command("verify", bundle, asked, "--json"), file)
    return section, data, "" if found.passed else found.diagnosis


def _benched(
    evidence: Any, bundle: "Bundle", asked: "Asked", seconds: float, file: str, advance: Any
) -> tuple[Any, bytes]:
    from edgecxr.bench import golden_files, quick
    from edgecxr.dossier.claims import Source, digest

    with TemporaryDirectory() as scratch:
        report = quick.bench(bundle, golden_files(bundle, Path(scratch)), asked, seconds=seconds, advance=advance)
    report["golden_inputs"] = True
    data = storage.json_text(report).encode()
    command = _command("bench -m", bundle, asked, "--seconds", f"{seconds:g}", "-o", file)
    return evidence.benched(report, Source(command, file, digest(data))), data


def _publish(output: Path, contents: dict[str, bytes], *, overwrite: bool) -> None:
    target = storage.resolve(output)
    try:
        with storage.replacing_folder(target, overwrite=overwrite) as partial:
            for name, content in contents.items():
                with storage.replacing_bytes(partial / name) as file:
                    file.write(content)
    except OSError as error:
        kind = StorageError if error.errno in storage.FULL else UsageError
        raise kind(f"the technical file can't be written ({error.strerror}): {output}") from None
