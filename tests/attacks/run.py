"""Run the attempts on a bundle: `python tests/attacks/run.py [NAME…]`; each must be refused with one sentence.

Every other module here is one attempt: its docstring says what is tried, `make(folder)` writes the bundle to `folder`,
`REFUSED` are words of the refusal, and `VERB` the verb that meets it where that isn't `infer`.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NAMES = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("run", "forge"))


def load(name: str) -> ModuleType:
    return importlib.import_module(f"attacks.{name}")


def attempt(name: str, scratch: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """What `edgecxr infer` (or the attempt's own verb) does with the attempt's bundle, in the folder around it."""
    module = load(name)
    bundle = module.make(scratch / "attack.edgecxr")
    verb = getattr(module, "VERB", "infer")
    command = ["verify", bundle] if verb == "verify" else ["infer", ROOT / "samples", "-m", bundle]
    command += getattr(module, "OPTIONS", [])
    return subprocess.run(
        [sys.executable, "-m", "edgecxr", *map(str, command)],
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def main() -> int:
    failed = 0
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as scratch:
            done = attempt(name, Path(scratch))
        refused = done.returncode == 3 and load(name).REFUSED in done.stderr
        failed += not refused
        print(f"{'refused' if refused else 'NOT REFUSED'}: {name}: {done.stderr.strip()[:300]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path[:0] = [str(HERE.parent)]
    sys.exit(main())
