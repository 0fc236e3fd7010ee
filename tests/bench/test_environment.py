"""The conditions of a measurement, read from a made-up /proc and /sys, and from this machine's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgecxr.bench import environment as env
from edgecxr.bench.cold import peak_megabytes


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


FILES = {
    "proc/stat": "cpu  1000 100 200 5000 50 30 20 400 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n",
    "proc/loadavg": "1.25 0.50 0.10 1/99 1234\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2500000\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "4\n",
    "sys/devices/system/cpu/cpufreq/boost": "1\n",
    "sys/devices/system/cpu/smt/control": "off\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/class/thermal/thermal_zone0/temp": "41000\n",
    "sys/class/thermal/thermal_zone1/temp": "67500\n",
    "sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_periods 10\nnr_throttled 7\n",
}


def may_use(monkeypatch: pytest.MonkeyPatch, *cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(cpus), raising=False)


def test_counters_and_sensors_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_use(monkeypatch, 0, 1)
    found = env.snapshot(write(tmp_path, FILES))
    tick = os.sysconf("SC_CLK_TCK")
    assert found.load_1min == 1.25
    assert found.busy_seconds == (1000 + 100 + 200 + 30 + 20) / tick
    assert found.steal_seconds == 400 / tick
    assert (found.mhz, found.celsius) == (2000, 67.5)
    assert (found.throttle_events, found.quota_throttled) == (7, 7)
    assert env.settings(tmp_path) == {
        "governors": ["powersave"], "turbo": True, "smt": "off", "transparent_hugepages": "madvise",
    }  # fmt: skip


def test_the_clock_is_that_of_the_cpus_that_may_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From cpufreq, or from /proc/cpuinfo on a virtual machine."""
    block = "processor\t: {}\nmodel name\t: x\ncpu MHz\t\t: {}\nflags\t\t: fpu\n"
    write(tmp_path / "virtual", {"proc/cpuinfo": "\n".join([block.format(0, 800.5), block.format(1, 3000)])})
    write(tmp_path / "metal", FILES)
    may_use(monkeypatch, 1)
    assert env.snapshot(tmp_path / "virtual").mhz == 3000
    assert env.snapshot(tmp_path / "metal").mhz == 2500
    may_use(monkeypatch, 0)
    assert env.snapshot(tmp_path / "virtual").mhz == 800.5
    may_use(monkeypatch, 7)
    assert env.snapshot(tmp_path / "virtual").mhz is None


def test_a_quota_above_or_below_the_root_is_seen(tmp_path: Path) -> None:
    nested = {
        "proc/self/cgroup": "0::/device.slice/edgecxr.service\n",
        "sys/fs/cgroup/device.slice/cpu.stat": "nr_throttled 4\n",
        "sys/fs/cgroup/device.slice/edgecxr.service/cpu.stat": "nr_throttled 9\n",
    }
    assert env.snapshot(write(tmp_path, {**FILES, **nested})).quota_throttled == 9


def test_what_isnt_told_is_none(tmp_path: Path) -> None:
    found = env.snapshot(tmp_path)
    unknown = (found.load_1min, found.busy_seconds, found.steal_seconds, found.mhz, found.celsius)
    assert set(unknown) | {found.throttle_events, found.quota_throttled} == {None}
    assert set(env.settings(tmp_path).values()) == {None}
    during = env.meanwhile(found, found)
    assert (during["others_cpus"], during["stolen_cpus"], during["throttle_events"]) == (None, None, None)


def test_intel_tells_turbo_the_other_way_round(tmp_path: Path) -> None:
    write(tmp_path, {"sys/devices/system/cpu/intel_pstate/no_turbo": "1\n"})
    assert env.settings(tmp_path)["turbo"] is False


def snapshot(**changes: object) -> env.Snapshot:
    fields: dict[str, object] = {
        "monotonic": 0.0, "load_1min": 0.0, "busy_seconds": 0.0, "steal_seconds": 0.0, "own_seconds": 0.0,
        "throttle_events": 0, "quota_throttled": 0, "mhz": None, "celsius": None,
    }  # fmt: skip
    return env.Snapshot(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_other_programs_took_is_a_warning() -> None:
    # 10 s in which all CPUs together worked 18 s, 8 of them for us, and 2 s were stolen
    after = snapshot(monotonic=10.0, busy_seconds=18.0, own_seconds=8.0, steal_seconds=2.0, throttle_events=5)
    during = env.meanwhile(snapshot(), after)
    assert during["others_cpus"] == pytest.approx(1.0)
    assert during["stolen_cpus"] == pytest.approx(0.2)
    told = env.warnings({"meanwhile": during, "settings": {"governors": ["powersave"]}})
    assert [sentence.split()[0] for sentence in told] == ["other", "the", "the", "the"]
    assert "1.0 CPUs" in told[0]
    assert "5 times" in told[2]
    calm = env.meanwhile(snapshot(), snapshot(monotonic=10.0, busy_seconds=8.5, own_seconds=8.0))
    assert env.warnings({"meanwhile": calm, "settings": {"governors": ["performance"]}}) == []


def test_this_machine_is_described() -> None:
    before = env.snapshot()
    described = env.describe(before, env.snapshot())
    assert described["cpus_usable"] >= 1
    assert described["affinity"] is None or len(described["affinity"]) >= described["cpus_usable"]
    assert os.uname().nodename not in str(described)


def test_peak_memory_is_that_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx\nVmPeak:\t  9999 kB\nVmHWM:\t  2000 kB\nVmRSS:\t 1 kB\n")
    assert peak_megabytes(tmp_path / "status") == pytest.approx(2.048)
    assert peak_megabytes(tmp_path / "absent") is None
