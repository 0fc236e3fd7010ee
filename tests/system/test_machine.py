"""CPUs that may be used, and the fingerprint."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecxr.device import doctor
from edgecxr.system import machine


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
        (
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/d/cpu.cfs_period_us": "100000\n"},
            "4:cpu,cpuacct:/d\n",
            0.5,
        ),
        # A container whose own group is the root of what it sees, though the kernel names it from the host's root.
        ({"cpu.max": "150000 100000\n"}, "0::/docker/1234\n", 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/\n1:memory:/x\n", None),
        ({}, "0::/\n", None),
    ],
)
def test_quota_of_the_control_group_and_those_above(
    tmp_path: Path, files: dict[str, str], membership: str, quota: float | None
) -> None:
    assert machine.cgroup_quota(*cgroup(tmp_path, files, membership)) == quota


@pytest.mark.parametrize(("quota", "usable"), [(None, 4), (0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (64.0, 4)])
def test_usable_cpus(monkeypatch: pytest.MonkeyPatch, quota: float | None, usable: int) -> None:
    """A started CPU counts: under a quota of 1.5, two workers scored 1.5 times what one did."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine, "cgroup_quota", lambda root, membership: quota)
    assert machine.cpus() == usable


def test_the_affinity_mask_is_kept_to(samples: Path) -> None:
    """In a process that may use one CPU, whatever the machine has: one worker of one thread."""
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}})\n"
        "from edgecxr.scoring import session\nfrom edgecxr.system import machine\n"
        "plan = session.make_plan('cpu', machine.cpus())\n"
        "print(machine.cpus(), plan.workers, plan.threads)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A cgroup of this machine's own whose CPU quota may be set; skipped where none may be made."""
    folder = Path("/sys/fs/cgroup/cpu/edgecxr-test")
    limits = folder / "cpu.cfs_quota_us"
    if not Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists():
        folder = Path("/sys/fs/cgroup/edgecxr-test")
        limits = folder / "cpu.max"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here ({error.strerror})")
    try:
        if not limits.exists():
            pytest.skip("control groups of this machine have no CPU quota")
        yield folder
    finally:
        folder.rmdir()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_real_quota(real_group: Path, tiny_bundle: Path, samples: Path, share: float) -> None:
    """Half a core works, with one worker of one thread, and the summary says so."""
    quota = f"{int(share * 100_000)}"
    if (real_group / "cpu.max").exists():
        (real_group / "cpu.max").write_text(f"{quota} 100000")
    else:
        (real_group / "cpu.cfs_quota_us").write_text(quota)
    code = (
        "import os, sys\n"
        f"open({str(real_group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from edgecxr.__main__ import main\n"
        f"sys.argv = ['edgecxr', 'infer', {str(samples)!r}, '-m', {str(tiny_bundle)!r}, '--json', '-q']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["workers"], summary["threads"]) == (1, 1)
    assert summary["statuses"] == {"scored": len(list(samples.iterdir()))}


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert machine.cache_folder() == Path("/somewhere/edgecxr")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # is to be ignored
    monkeypatch.setenv("HOME", "/home/of")
    assert machine.cache_folder() == Path("/home/of/.cache/edgecxr")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # where there is no home
    assert machine.cache_folder() is None


def test_the_fingerprint_is_json_and_names_no_machine() -> None:
    found = machine.fingerprint(["numpy", "absent"])
    text = json.dumps(found)
    assert found["cpu"]
    assert list(found["packages"]) == ["numpy"]
    assert os.uname().nodename not in text or len(os.uname().nodename) < 4


def test_both_builds_of_onnxruntime_are_a_problem_with_a_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    real = machine.package_version
    monkeypatch.setattr(machine, "package_version", lambda n: "1.0" if n.startswith("onnxruntime") else real(n))
    checkup = doctor.look()
    assert not checkup.healthy
    problem = next(f for f in checkup.findings if f.level == "problem")
    assert "overwrite" in problem.what
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in problem.repair


def test_a_missing_engine_is_a_problem_with_a_repair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    problem = next(f for f in doctor.look().findings if f.level == "problem")
    assert "edgecxr[cpu]" in problem.repair


def test_this_machine_is_healthy() -> None:
    checkup = doctor.look()
    assert checkup.healthy, checkup.findings
