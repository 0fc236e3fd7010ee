"""The conditions of a measurement: what the machine is, and what else it did meanwhile.

Linux tells most of it under /proc and /sys; what it doesn't tell on a machine is None, and never guessed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from edgecxr.engines.select import fingerprint
from edgecxr.system import machine

CPUS = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Snapshot:
    """Counters and sensors at one moment; what this system doesn't tell is None."""

    monotonic: float  # s
    load_1min: float | None  # runnable tasks, ours among them (proc_loadavg(5))
    busy_seconds: float | None  # of all CPUs since boot, whoever used them
    steal_seconds: float | None  # that the hypervisor gave to other machines
    own_seconds: float  # of this process and its children that have ended
    throttle_events: int | None  # of the CPUs' thermal monitors (Documentation/admin-guide/thermal)
    quota_throttled: int | None  # periods in which the cgroup's quota stopped us (cpu.stat)
    mhz: float | None  # mean of the usable CPUs as the kernel reports it
    celsius: float | None  # of the hottest thermal zone


def snapshot(root: Path = Path("/")) -> Snapshot:
    """Read counters and sensors under `root`."""
    busy, steal = _cpu_seconds(root)
    return Snapshot(
        monotonic=time.monotonic(),
        load_1min=_load(root),
        busy_seconds=busy,
        steal_seconds=steal,
        own_seconds=sum(os.times()[:4]),
        throttle_events=_sum(root.glob(f"{CPUS}/cpu[0-9]*/thermal_throttle/*_throttle_count")),
        quota_throttled=_quota_throttled(root),
        mhz=_mhz(root),
        celsius=max(_celsius(root), default=None),
    )


def describe(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """The machine's fingerprint, its settings, and what happened between two snapshots, as JSON-able data."""
    return {
        **fingerprint(),
        "affinity": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cgroup_quota_cpus": machine.cgroup_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")),
        "virtual_machine": "hypervisor" in machine.cpu_flags(),
        "settings": settings(),
        "meanwhile": meanwhile(before, after),
    }


def settings(root: Path = Path("/")) -> dict[str, Any]:
    """What decides the clock: governors, turbo, simultaneous threads; None where the system doesn't say."""
    governors = {_read(path) for path in root.glob(f"{CPUS}/cpu[0-9]*/cpufreq/scaling_governor")}
    no_turbo, boost = _read(root / CPUS / "intel_pstate/no_turbo"), _read(root / CPUS / "cpufreq/boost")
    turbo = None if no_turbo is None and boost is None else (no_turbo == "0" if no_turbo is not None else boost == "1")
    return {
        "governors": sorted(g for g in governors if g) or None,
        "turbo": turbo,
        "smt": _read(root / CPUS / "smt/control"),
        "transparent_hugepages": _chosen(_read(root / "sys/kernel/mm/transparent_hugepage/enabled")),
    }


def meanwhile(before: Snapshot, after: Snapshot) -> dict[str, Any]:
    """What happened between two snapshots, each figure None where the system doesn't tell.

    `others_cpus` is how many CPUs were busy with other work than this process's, on average.
    """
    seconds = after.monotonic - before.monotonic
    busy = _difference(before.busy_seconds, after.busy_seconds)
    own = after.own_seconds - before.own_seconds
    steal = _difference(before.steal_seconds, after.steal_seconds)
    return {
        "seconds": seconds,
        "load_1min": [before.load_1min, after.load_1min],
        "others_cpus": None if busy is None or seconds <= 0 else max(0.0, (busy - own) / seconds),
        "stolen_cpus": None if steal is None or seconds <= 0 else steal / seconds,
        "throttle_events": _difference(before.throttle_events, after.throttle_events),
        "quota_throttled": _difference(before.quota_throttled, after.quota_throttled),
        "mhz": [before.mhz, after.mhz],
        "celsius": [before.celsius, after.celsius],
    }


def warnings(described: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the conditions before believing a figure, as sentences."""
    found = []
    during = described["meanwhile"]
    if (others := during["others_cpus"]) is not None and others > 0.1:
        found.append(f"other programs kept {others:.1f} CPUs busy meanwhile: the machine would be faster alone")
    if (stolen := during["stolen_cpus"]) is not None and stolen > 0.05:
        found.append(f"the hypervisor took {stolen:.2f} CPUs away meanwhile")
    if during["throttle_events"]:
        found.append(f"the CPUs were throttled for their temperature {during['throttle_events']} times")
    if during["quota_throttled"]:
        found.append(f"the cgroup's quota stopped the process in {during['quota_throttled']} periods")
    governors = described["settings"]["governors"] or []
    if governors and governors != ["performance"]:
        found.append(f"the frequency governor is {', '.join(governors)}: the clock follows the load")
    return found


def _cpu_seconds(root: Path) -> tuple[float | None, float | None]:
    """(busy, stolen) seconds since boot, summed over CPUs (proc_stat(5))."""
    line = (_read(root / "proc/stat") or "").partition("\n")[0].split()
    if len(line) < 9 or line[0] != "cpu":
        return None, None
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(value) for value in line[1:9])
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick


def _load(root: Path) -> float | None:
    text = _read(root / "proc/loadavg")
    return float(text.split()[0]) if text else None


def _quota_throttled(root: Path) -> int | None:
    """The largest `nr_throttled` of the cgroup that this process is in and of those above it; None where none counts.

    A process is stopped with whichever of them has used up its quota.
    """
    mounted = root / "sys/fs/cgroup"
    folders = [*machine.cgroup_folders(mounted, root / "proc/self/cgroup"), mounted, mounted / "cpu"]
    texts = [_read(folder / "cpu.stat") or "" for folder in folders]
    counts = [int(found[1]) for text in texts if (found := re.search(r"^nr_throttled (\d+)", text, flags=re.MULTILINE))]
    return max(counts, default=None)


def _mhz(root: Path) -> float | None:
    clocks = _cpufreq_mhz(root) or _cpuinfo_mhz(root)
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(clocks)
    current = [clocks[cpu] for cpu in usable if cpu in clocks]
    return mean(current) if current else None


def _cpufreq_mhz(root: Path) -> dict[int, float]:
    files = root.glob(f"{CPUS}/cpu[0-9]*/cpufreq/scaling_cur_freq")
    return {int(file.parts[-3].removeprefix("cpu")): float(text) / 1e3 for file in files if (text := _read(file))}


def _cpuinfo_mhz(root: Path) -> dict[int, float]:
    blocks = (_read(root / "proc/cpuinfo") or "").split("\n\n")  # one a CPU
    found = (re.search(r"^processor\s*: (\d+)$.*^cpu MHz\s*: ([\d.]+)$", block, re.M | re.S) for block in blocks)
    return {int(each[1]): float(each[2]) for each in found if each}


def _celsius(root: Path) -> Iterable[float]:
    for path in root.glob("sys/class/thermal/thermal_zone*/temp"):
        with contextlib.suppress(ValueError):
            yield int(_read(path) or "") / 1e3


def _sum(paths: Iterable[Path]) -> int | None:
    values = [int(text) for path in paths if (text := _read(path)) and text.isdigit()]
    return sum(values) if values else None


def _difference(before: Any, after: Any) -> Any:
    return None if before is None or after is None else after - before


def _chosen(text: str | None) -> str | None:
    """The bracketed word of a setting like "always [madvise] never"."""
    found = re.search(r"\[(\w+)\]", text or "")
    return found[1] if found else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
