"""What is right and wrong, by source and class, the films from elsewhere first; several models on the same films.

    python benchmarks/accuracy.py DATA -m BUNDLE -m OTHER -o accuracy.json [--threads N]

DATA holds the folders darkcovidnet, sources and radiography. Each row is one call of `edgecxr eval`, which the report
names; every model but the first is compared with the first on the same films (`eval --against`). Beside the JSON a
table is written, accuracy.md. The tests are read here: nothing may be chosen on these figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# What is measured: a name, and the arguments of `edgecxr eval MODEL`.
ROWS: dict[str, tuple[str, ...]] = {
    "darkcovidnet, in no fit": ("darkcovidnet", "--where", "near_radiography=", "--ignore-label", "pneumonia"),
    "SIIM, test": ("sources", "--where", "source=siim", "--split", "test"),
    "JSRT, test": ("sources", "--where", "source=jsrt", "--split", "test", "--ignore-label", "nodule"),
    "radiography, test": ("radiography",),
    "… without doubtful films": ("radiography", "--leave-out", "radiography/doubts.csv"),
    "… of the original 2,905 films": ("radiography", "--where", "seed=1"),
}
PATHS = ("--leave-out",)  # options whose value lies in DATA


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-m", "--model", action="append", required=True, help="a bundle, full, edge, or a RUN")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .json; the table goes beside it")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    rows = []
    for name, arguments in ROWS.items():
        reports = [evaluated(asked.data, model, asked.model[0], arguments, asked.threads) for model in asked.model]
        said = " ".join(arguments)
        rows.append({"films": name, "command": f"edgecxr eval MODEL {said}", "models": [brief(r) for r in reports]})
        print(f"{name}: {', '.join(share(r['accuracy']) for r in reports)}", file=sys.stderr, flush=True)
    asked.output.write_text(json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n")
    asked.output.with_suffix(".md").write_text(table(rows))


def evaluated(data: Path, model: str, first: str, arguments: tuple[str, ...], threads: int | None) -> dict[str, Any]:
    folder, *options = arguments
    placed = [
        str(data / each) if before in PATHS else each for before, each in zip(["", *options], options, strict=False)
    ]
    against = [] if model == first else ["--against", first]
    pool = [] if threads is None else ["--threads", str(threads)]
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "report.json"
        command = ["edgecxr", "eval", model, str(data / folder), *placed, *against, *pool, "-o", str(target)]
        done = subprocess.run(
            [sys.executable, "-m", *command], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return dict(json.loads(target.read_text()))


def brief(report: dict[str, Any]) -> dict[str, Any]:
    """What the table and the card quote of a report."""
    kept = ("model", "bundle_sha256", "engine", "precision", "pictures", "groups", "accuracy", "against")
    calibration = report["calibration"]["after"]["ece"]
    by_label = {name: report[name] for name in ("sensitivity", "auroc")}
    found = {key: report[key] for key in kept}
    return {**found, "ece": calibration, **by_label, "abstained": report.get("abstention")}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| films | model | right | covid found | normal found | AUROC of covid | calibration error |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        for number, of in enumerate(row["models"]):
            cells = [
                row["films"] if number == 0 else "",
                f"{of['model']} {str(of['bundle_sha256'] or '')[:8]}",
                share(of["accuracy"]),
                *(share(of["sensitivity"].get(label)) for label in ("covid", "normal")),
                number_of(of["auroc"].get("covid"), 3),
                number_of(of["ece"], 3),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def share(of: dict[str, Any] | None) -> str:
    if not of or not of.get("total"):
        return "–"
    low, high = of["interval95"]
    return f"{of['value']:.1%} ({low:.1%}–{high:.1%}), {of['hits']} of {of['total']}"


def number_of(of: dict[str, Any] | None, digits: int) -> str:
    if not of or of["value"] is None:
        return "–"
    if of["interval95"] is None:
        return f"{of['value']:.{digits}f}"
    low, high = of["interval95"]
    return f"{of['value']:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


if __name__ == "__main__":
    main()
