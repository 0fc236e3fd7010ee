"""What a person reads of a measurement: tables and sentences. Gets a finished report, decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from edgecxr.bench.stages import STAGES

Report = Mapping[str, Any]


def shown(report: Report) -> Iterator[Table | Text]:
    """What goes to stdout, in order."""
    if report["kind"] == "mlperf":
        yield from _mlperf(report)
    elif report["kind"] == "sustained":
        yield from _sustained(report)
    else:
        yield from _results(report)
        yield from _stages(report)
        yield from _starts(report)
    if "comparison" in report:
        yield from _comparison(report["comparison"])


def remarks(report: Report) -> Iterator[str]:
    """What goes to stderr: conditions, and what was left out."""
    yield from (f"note: {sentence}" for sentence in report["warnings"])
    yield from (f"not run: {reason}" for reason in report.get("not_run", ()))
    pictures = report["pictures"]
    if pictures["left_out"]:
        yield f"{pictures['left_out']} files would be rejected, and were left out"
    if report["golden_inputs"]:
        yield f"measured on the bundle's {pictures['count']} golden inputs; give PATH for pictures of your own"


def _title(report: Report, what: str) -> str:
    found = report["machine"]
    return f"{found['cpu']}, {found['cpus_usable']} CPUs · {what}"


def _table(left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def subject(report: Report) -> str:
    """The name and version of what was measured, of each model where there are several."""
    bundles = report.get("models") or [report["bundle"]]
    return " and ".join(f"{bundle['name']} {bundle['version']}" for bundle in bundles)


def _model(what: Mapping[str, Any]) -> tuple[str, ...]:
    """Whose a row is, and for a report the head of that column, where several models were measured."""
    if "models" in what:
        return ("model",)
    return (what["model"],) if "model" in what else ()


def _results(report: Report) -> Iterator[Table | Text]:
    about = f"{subject(report)}, quick, {report['rounds']} rounds, cases in turn"
    yield Text(_title(report, about), style="italic")
    table = _table(
        (*_model(report), "artifact", "engine", "what"),
        ("batch", "workers x threads", "calls", "p50 ms", "", "p90 ms", "", "p99 ms", "pictures/s", ""),
    )
    for row in report["results"]:
        figures: list[str] = []
        for q in (50, 90):
            figures += [_number(row[f"p{q}_ms"]), _range(row[f"p{q}_spread_ms"])]
        table.add_row(
            *_model(row),
            f"{row['precision']} {row['artifact'].rpartition('.')[2]}",
            f"{row['engine']} {row['device']}",
            row["what"],
            str(row["batch_size"]),
            f"{row['workers']} x {row['threads']}",
            str(row["samples"]),
            *figures,
            _number(row["p99_ms"]),
            _number(row["throughput"]),
            _range([row["throughput_low"], row["throughput_high"]]),
        )
    yield table


def _stages(report: Report) -> Iterator[Table | Text]:
    pictures = report["pictures"]
    size = f"{pictures['count']} pictures, median {pictures['median_megapixels']:.1f} megapixels"
    yield Text(f"\nwhere a picture's time goes, median ms ({size})", style="italic")
    table = _table((*_model(report), "artifact", "engine"), STAGES)
    for row in report["results"]:
        if row["stages_ms"]:
            cells = [f"{row['stages_ms'][stage]:.2f}" for stage in STAGES]
            table.add_row(*_model(row), row["precision"], f"{row['engine']} {row['device']}", *cells)
    yield table


def _starts(report: Report) -> Iterator[Table | Text]:
    yield Text("\na process of its own: start to first record, memory at most", style="italic")
    table = _table(
        (*_model(report), "artifact", "engine"),
        ("seconds", "", "starts", "peak MB", "artifact MB"),
    )
    sizes = {(*_model(row), row["artifact"]): row["megabytes"] for row in report["results"]}
    for row in report["cold_start"]:
        table.add_row(
            *_model(row),
            row["precision"],
            f"{row['engine']} {row['device']}",
            f"{row['seconds']:.2f}",
            f"{row['seconds_low']:.2f}–{row['seconds_high']:.2f}",
            str(len(row["rounds"])),
            _number(row["peak_megabytes"]),
            f"{sizes[*_model(row), row['artifact']]:.1f}",
        )
    yield table


def _mlperf(report: Report) -> Iterator[Table | Text]:
    from edgecxr.bench.mlperf import headline

    yield Text(_title(report, f"LoadGen {report['loadgen']}, unverified, no MLPerf result"), style="italic")
    table = _table(("", ""), ())
    table.show_header = False
    table.add_row("scenario", report["scenario"])
    table.add_row("runs on", f"{report['precision']}, {report['engine']} {report['provider']}, {report['device']}")
    table.add_row(
        "plan", f"{report['workers']} workers, {report['threads']} threads, batches of {report['batch_size']}"
    )
    for name, value in report["early_stopping_ms"].items():
        table.add_row(f"early-stopping estimate of {name}", f"{value:.2f} ms")
    for name, value in report["latency_ms"].items():
        table.add_row(f"{name} of a query", f"{value:.2f} ms")
    if report["throughput"] is not None:
        table.add_row("throughput", f"{report['throughput']:.2f} samples/s")
    yield table
    yield Text(headline(report), style="bold" if report["valid"] and report["conforms"] else "yellow")


def _sustained(report: Report) -> Iterator[Table | Text]:
    yield Text(_title(report, f"{report['precision']} on {report['engine']}, {report['minutes']:g} minutes"))
    rows = report["windows"]
    table = _table((), ("s", "pictures/s", "MHz", "°C", "throttled"))
    for row in rows[:: max(1, len(rows) // 20)]:
        table.add_row(
            f"{row['seconds']:.0f}",
            f"{row['throughput']:.1f}",
            "–" if row["mhz"] is None else f"{row['mhz']:.0f}",
            _number(row["celsius"]),
            "–" if row["throttle_events"] is None else str(row["throttle_events"]),
        )
    yield table
    if report["remaining"] is not None:
        yield Text(
            f"first tenth {report['first']:.1f}/s, last tenth {report['last']:.1f}/s: {report['remaining']:.1%} remain",
            style="bold",
        )


def _comparison(comparison: Mapping[str, Any]) -> Iterator[Table | Text]:
    yield Text(f"\nagainst the earlier report ({comparison['rule']})", style="italic")
    models = any("model" in row["case"] for row in comparison["changes"])
    table = _table(
        (*(("model",) if models else ()), "artifact", "engine", "what", "figure"),
        ("batch", "before", "now", "ratio", "by chance", ""),
    )
    for row in comparison["changes"]:
        case = row["case"]
        style = {"faster": "green", "slower": "red", "same": ""}[row["verdict"]]
        table.add_row(
            *_model(case),
            case["precision"],
            case["engine"],
            case["what"],
            row["figure"],
            str(case.get("batch_size", "")),
            f"{row['before']:.2f}",
            f"{row['after']:.2f}",
            f"{row['ratio']:.2f}",
            "" if row["chance"] == 1 else f"{row['chance']:.1%}",
            Text(row["verdict"], style=style),
        )
    yield table
    for sentence in differences(comparison):
        yield Text(sentence, style="yellow")


def differences(comparison: Mapping[str, Any]) -> Iterator[str]:
    """What else is different between two reports than the time, as sentences."""
    if comparison["machine_differs"]:
        yield f"the machines differ ({', '.join(comparison['machine_differs'])}): a change may come from there"
    if comparison["bundle_differs"]:
        yield "the bundles differ: a change may come from there"
    if comparison["pictures_differ"]:
        yield "the pictures differ: a change of anything but `model` may come from there"
    for key, when in (("only_before", "earlier"), ("only_after", "new")):
        if comparison[key]:
            yield f"{len(comparison[key])} cases are in the {when} report alone"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _range(bounds: list[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.1f}–{bounds[1]:.1f}"
