"""`edgecxr listen` in processes of its own that begin at once: forks of one that has imported everything.

    python nodes.py BUNDLE        a call's arguments as JSON on each line of stdin; the fork's number on stdout

A fork writes where the first two of its arguments say, in place of stdout and stderr. It is killed by its number.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


class Nodes:
    """The process that forks; a context manager that ends it and all that it forked."""

    def __init__(self, logs: Path, bundle: Path) -> None:
        self._logs, self._number, self._running = logs, 0, set[int]()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(bundle)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._running):
            self.kill(number)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def start(self, *arguments: object) -> int:
        """The number of a new process that runs `edgecxr ARGUMENTS`."""
        self._number += 1
        self.out, self.err = (self._logs / f"{self._number}.{kind}" for kind in ("out", "err"))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(self.out), str(self.err), *map(str, arguments)]) + "\n")
        self._process.stdin.flush()
        number = int(self._process.stdout.readline())
        self._running.add(number)
        return number

    def kill(self, number: int, how: int = signal.SIGKILL) -> None:
        os.kill(number, how)
        if how == signal.SIGKILL:
            self._running.discard(number)

    def ready(self) -> bool:
        """Whether the last that was started says that it is."""
        return self.out.exists() and "ready: " in self.out.read_text()


def _make_a_report(bundle: Any) -> None:
    """The first takes a second, and no fork shall."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from clinic.ends import film
    from edgecxr.clinic.report import dicom_results
    from edgecxr.records.prediction import Prediction, Provenance

    data, label, nobody = film(), bundle.labels[0], Provenance("x", bundle.digest, "x", "x", "cpu", "int8")
    sha256, numbers = hashlib.sha256(data).hexdigest(), dict.fromkeys(bundle.labels, 0.25)
    what = (None, sha256, "scored", label, numbers, numbers, None, None, None, 96, 80, 12, nobody)
    assert dicom_results(data, Prediction(*what, "2026-01-01T00:00:00Z"), bundle)


def main() -> None:
    import onnxruntime  # noqa: F401  so that a fork has it

    from edgecxr.bundle import load
    from edgecxr.cli import main as edgecxr
    from edgecxr.clinic import service  # noqa: F401
    from edgecxr.device import golden  # noqa: F401

    _make_a_report(load(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        out, err, *arguments = json.loads(line)
        number = os.fork()
        if number:
            print(number, flush=True)
            continue
        for descriptor, path in ((1, out), (2, err)):
            file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
            os.dup2(file, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.argv = ["edgecxr", *arguments]
        code: object = 70
        try:
            edgecxr()
        except SystemExit as left:
            code = left.code
        finally:
            sys.stdout.flush()
            os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
