"""What `edgecxr bench` measured, drawn: latencies, throughput against batch, accuracy against speed, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from edgecxr.bench.stages import STAGES
from edgecxr.engines.select import ORDER
from edgecxr.views.figure import new_figure, png

Report = Mapping[str, Any]
Row = Mapping[str, Any]

# Okabe and Ito's palette (2008), which colour-blind readers tell apart: an engine each. A precision has a line style.
COLOURS = dict(zip(ORDER, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=False))
STYLES = {"int8": "-", "fp32": "--", "bf16": "-.", "fp16": ":", "tf32": (0, (1, 3)), "int8-symmetric": (0, (5, 1))}
STAGE_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#d55e00", "#cc79a7")
GREY = "#6b7580"
SIZE = (6.4, 4.2)  # inches; two stand side by side
WIDE = 9.0


def plots(report: Report) -> dict[str, bytes]:
    """PNG files by name, those that the report has figures for."""
    if report["kind"] == "sustained":
        return {"time.png": png(over_time(report))} if report["windows"] else {}
    if report["kind"] == "mlperf":
        return {"percentiles.png": png(percentiles(report))} if report["latency_ms"] else {}
    drawn = {"latency.png": latency(report), "stages.png": stages(report)}
    if len({row["batch_size"] for row in report["results"] if row["what"] == "model"}) > 1:
        drawn["batch.png"] = batches(report)
    if any(row["accuracy"] for row in report["results"]):
        drawn["accuracy.png"] = accuracy(report)
    return {name: png(figure) for name, figure in drawn.items()}


def name_of(row: Row) -> str:
    """What a row is of, in words; a row of several models says whose."""
    names = [row["model"]] if "model" in row else []
    return ", ".join([*names, row["precision"], row["engine"], *([] if row["device"] == "cpu" else [row["device"]])])


def _look(row: Row, report: Report) -> dict[str, Any]:
    return {
        "color": COLOURS.get(row["engine"], GREY),
        "linestyle": STYLES.get(row["precision"], "-"),
        "alpha": _strength(row, report),
    }


def _strength(row: Row, report: Report) -> float:
    """1 for the first model, less for each further one: engines and precisions have colours and lines already."""
    models = [each["model"] for each in report.get("models", ())]
    return max(0.25, 0.5 ** models.index(row["model"])) if "model" in row else 1.0


def _axes(figure: Figure, title: str, x: str, y: str) -> Any:
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#d9dee4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _legend(axes: Any, **options: Any) -> None:
    axes.legend(frameon=False, fontsize=8.5, **options)


def latency(report: Report) -> Figure:
    """Share of the calls that take no longer than so many ms: one picture, from its file."""
    figure = new_figure(*SIZE)
    axes = _axes(figure, "One picture at a time, file to answer", "ms, logarithmic", "share of the calls within")
    for row in report["results"]:
        if row["what"] == "picture":
            count = len(row["quantiles_ms"]) - 1
            axes.plot(
                row["quantiles_ms"],
                [i / count for i in range(count + 1)],
                label=f"{name_of(row)} ({row['samples']} calls)",
                **_look(row, report),
            )
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.01)
    for share in (0.5, 0.9, 0.99):
        axes.axhline(share, color=GREY, linewidth=0.6, linestyle=":")
    _legend(axes, loc="lower right")
    return figure


def batches(report: Report) -> Figure:
    """Pictures a second against the batch, model only, with each round's spread."""
    figure = new_figure(*SIZE)
    axes = _axes(figure, "Model only, every CPU on one call", "batch", "pictures/s")
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report["results"]:
        if row["what"] == "model":
            groups.setdefault((row["artifact"], name_of(row)), []).append(row)
    for rows in groups.values():
        sizes, rates = [row["batch_size"] for row in rows], [row["throughput"] for row in rows]
        spread = [
            [row["throughput"] - row["throughput_low"] for row in rows],
            [row["throughput_high"] - row["throughput"] for row in rows],
        ]
        look = {"marker": "o", "markersize": 4, "capsize": 3, **_look(rows[0], report)}
        axes.errorbar(sizes, rates, yerr=spread, label=name_of(rows[0]), **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row["batch_size"] for rows in groups.values() for row in rows}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    _legend(axes)
    return figure


def stages(report: Report) -> Figure:
    """Where a picture's time goes, as stacked bars of medians."""
    rows = [row for row in report["results"] if row["stages_ms"]]
    figure = new_figure(SIZE[0], max(2.4, 1.5 + 0.42 * len(rows)))
    axes = _axes(figure, "Where a picture's time goes", "ms, medians", "")
    for place, row in enumerate(rows):
        left = 0.0
        for stage, colour in zip(STAGES, STAGE_COLOURS, strict=True):
            width = row["stages_ms"][stage]
            axes.barh(place, width, left=left, height=0.62, color=colour, label=stage if place == 0 else None)
            left += width
    axes.set_yticks(range(len(rows)), [name_of(row) for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=len(STAGES), frameon=False, fontsize=8.5)
    return figure


def accuracy(report: Report) -> Figure:
    """The accuracy that the bundle's own report gives against the throughput measured here."""
    figure = new_figure(*SIZE)
    rows = [row for row in report["results"] if row["what"] == "folder" and row["accuracy"]]
    first = rows[0]["accuracy"]
    where = f" on {first['split']}" if first["split"] else ""
    axes = _axes(
        figure, "Accuracy against speed", "pictures/s, a folder as infer takes it", f"accuracy{where}, as exported"
    )
    for row in rows:
        error = [[row["throughput"] - row["throughput_low"]], [row["throughput_high"] - row["throughput"]]]
        axes.errorbar(
            row["throughput"],
            row["accuracy"]["value"],
            xerr=error,
            marker={"int8": "o", "fp32": "s"}.get(row["precision"], "^"),
            capsize=3,
            linestyle="none",
            color=COLOURS.get(row["engine"], GREY),
            alpha=_strength(row, report),
            label=name_of(row),
        )
    values = [row["accuracy"]["value"] for row in rows]
    middle, half = (min(values) + max(values)) / 2, max(0.01, max(values) - min(values))
    axes.set_ylim(middle - half, min(1.0, middle + half))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.set_xlim(left=0)
    _legend(axes)
    return figure


def percentiles(report: Report) -> Figure:
    """LoadGen's latency percentiles of a query."""
    figure = new_figure(*SIZE)
    axes = _axes(figure, f"{report['scenario']}: latency of a query", "percentile", "ms")
    names, values = list(report["latency_ms"]), list(report["latency_ms"].values())
    bars = axes.bar(names, values, width=0.6, color=COLOURS.get(report["engine"], GREY))
    axes.bar_label(bars, [f"{value:.1f}" for value in values], padding=2, fontsize=9)
    for name, value in report["early_stopping_ms"].items():
        if name in names:
            place = names.index(name)
            axes.plot([place - 0.42, place + 0.42], [value, value], color="#1a1d21", linewidth=1.6)
    axes.grid(visible=False, axis="x")
    return figure


def over_time(report: Report) -> Figure:
    """Throughput of each window, with the clock and the temperature where the system tells them."""
    rows: Sequence[Row] = report["windows"]
    minutes = [row["seconds"] / 60 for row in rows]
    sensors = [
        (key, unit, colour)
        for key, unit, colour in (("mhz", "MHz", "#0072b2"), ("celsius", "°C", "#d55e00"))
        if len({row[key] for row in rows}) > 1 or (key == "celsius" and rows[0][key] is not None)
    ]
    figure = new_figure(WIDE, 3.6 + 1.6 * len(sensors))
    grid = figure.subplots(1 + len(sensors), 1, sharex=True, squeeze=False, height_ratios=[2.2, *[1] * len(sensors)])
    top = grid[0, 0]
    top.set_title("Throughput over time", loc="left", fontsize=11)
    top.plot(minutes, [row["throughput"] for row in rows], color="#009e73", marker=".", markersize=4)
    top.set_ylabel("pictures/s")
    top.set_ylim(bottom=0)
    for place, (key, unit, colour) in enumerate(sensors, 1):
        shown = [(x, row[key]) for x, row in zip(minutes, rows, strict=True) if row[key] is not None]
        grid[place, 0].plot([x for x, _ in shown], [y for _, y in shown], color=colour)
        grid[place, 0].set_ylabel(unit)
    for axes in grid[:, 0]:
        axes.grid(color="#d9dee4", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    grid[-1, 0].set_xlabel("minutes")
    return figure


def _plain_ticks(axis: Any) -> None:
    """Numbers as people write them on a logarithmic axis, also where it spans less than a decade."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: f"{value:g}")
    axis.set_tick_params(which="both", labelsize=9)
