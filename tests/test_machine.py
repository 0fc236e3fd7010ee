"""CPUs that may be used, and the fingerprint."""

import json
import os
from pathlib import Path

import pytest

from edgecxr import doctor, machine


def cgroup(tmp_path: Path, files: dict[str, str], membership: str) -> tuple[Path, Path]:
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    return root, tmp_path / "membership"


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "50000 100000\n"}, "0::/a/b\n", 0.5),
        ({"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 1.0),
        ({"cpu/d/cpu.cfs_quota_us": "300000\n", "cpu/d/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/d\n", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/\n1:memory:/x\n", None),
        ({}, "0::/\n", None),
    ],
)
def test_quota_of_the_control_group_and_those_above(
    tmp_path: Path, files: dict[str, str], membership: str, quota: float | None
) -> None:
    assert machine.cgroup_quota(*cgroup(tmp_path, files, membership)) == quota


@pytest.mark.parametrize(("quota", "usable"), [(None, 4), (0.5, 1), (1.5, 1), (2.0, 2), (64.0, 4)])
def test_usable_cpus(monkeypatch: pytest.MonkeyPatch, quota: float | None, usable: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine, "cgroup_quota", lambda root, membership: quota)
    assert machine.cpus() == usable


def test_the_fingerprint_is_json_and_names_no_machine() -> None:
    found = machine.fingerprint()
    text = json.dumps(found)
    assert found["cpu"]
    assert found["packages"]["numpy"]
    assert os.uname().nodename not in text or len(os.uname().nodename) < 4


def test_both_builds_of_onnxruntime_are_a_problem_with_a_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    real = machine.package_version
    monkeypatch.setattr(machine, "package_version", lambda n: "1.0" if n.startswith("onnxruntime") else real(n))
    diagnosis = doctor.diagnose()
    assert not diagnosis.healthy
    problem = next(f for f in diagnosis.findings if f.level == "problem")
    assert "overwrite" in problem.what
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in problem.repair


def test_a_missing_engine_is_a_problem_with_a_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    problem = next(f for f in doctor.diagnose().findings if f.level == "problem")
    assert "edgecxr[cpu]" in problem.repair


def test_this_machine_is_healthy() -> None:
    diagnosis = doctor.diagnose()
    assert diagnosis.healthy, diagnosis.findings
