"""A measurement as one HTML page with its plots: what is sent to a colleague, or to the maker of the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import edgecxr
from edgecxr.bench import mlperf
from edgecxr.bench.plots import plots
from edgecxr.bench.stages import STAGES
from edgecxr.bench.table import differences, subject
from edgecxr.views.html import data_uri, render

KINDS = {"quick": "Quick measurement", "mlperf": "Run by MLPerf's rules", "sustained": "Sustained measurement"}


def page(report: Mapping[str, Any]) -> str:
    """The page of what `edgecxr bench` reports, of any kind; it names no file of the user's."""
    comparison = report.get("comparison")
    return render(
        "bench.html",
        version=edgecxr.__version__,
        report=report,
        title=f"{subject(report)} on {report['machine']['cpu']}",
        kind=KINDS[report["kind"]],
        stages=STAGES,
        machine=machine_rows(report["machine"]),
        headline=mlperf.headline(report) if report["kind"] == "mlperf" else None,
        differences=list(differences(comparison)) if comparison else [],
        plots={name.removesuffix(".png"): data_uri(content) for name, content in plots(report).items()},
    )


def machine_rows(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of everything that is known of the machine and of what it did meanwhile."""
    settings, during = machine["settings"], machine["meanwhile"]
    memory = machine["memory_bytes"]
    rows = [
        ("processor", machine["cpu"]),
        ("instructions of note", ", ".join(machine["cpu_features"])),
        ("CPUs", f"{machine['cpus_usable']} usable of {machine['cpus_online']}"),
        ("affinity", _list(machine["affinity"])),
        ("cgroup quota, CPUs", machine["cgroup_quota_cpus"] or "none"),
        ("virtual machine", "yes" if machine["virtual_machine"] else "not that it says"),
        ("memory", f"{memory / 2**30:.1f} GiB" if memory else None),
        ("GPUs", _list(machine["gpus"]) or "none of NVIDIA's"),
        ("frequency governor", _list(settings["governors"])),
        ("turbo", None if settings["turbo"] is None else ("on" if settings["turbo"] else "off")),
        ("simultaneous threads", settings["smt"]),
        ("transparent huge pages", settings["transparent_hugepages"]),
        ("system", machine["system"]),
        ("Python", machine["python"]),
        ("packages", ", ".join(f"{name} {version}" for name, version in machine["packages"].items())),
        ("load, before and after", _pair(during["load_1min"], "{:.2f}")),
        ("CPUs that others used", _number(during["others_cpus"], "{:.2f}")),
        ("CPUs that the hypervisor took", _number(during["stolen_cpus"], "{:.2f}")),
        ("thermal throttling, events", _number(during["throttle_events"], "{}")),
        ("periods stopped by the quota", _number(during["quota_throttled"], "{}")),
        ("clock, MHz, before and after", _pair(during["mhz"], "{:.0f}")),
        ("temperature, °C, before and after", _pair(during["celsius"], "{:.1f}")),
    ]
    return [(name, str(value) if value not in (None, "") else "not told by this system") for name, value in rows]


def _list(values: Any) -> str | None:
    return ", ".join(map(str, values)) if values else None


def _number(value: Any, form: str) -> str | None:
    return None if value is None else form.format(value)


def _pair(values: Any, form: str) -> str | None:
    return None if None in values else " → ".join(form.format(value) for value in values)
