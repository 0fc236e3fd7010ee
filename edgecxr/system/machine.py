"""What this machine is: how many CPUs may be used, and a fingerprint to stand beside every measurement."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# Instruction sets that decide how fast, and on some CPUs how right, int8 and bfloat16 kernels are.
CPU_FEATURES = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
)


def cpus() -> int:
    """CPUs this process may use: the affinity mask, limited by the cgroup's quota, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cgroup_quota(root: Path, membership: Path) -> float | None:
    """Smallest CPU quota, in CPUs, of the cgroup this process is in and of those above it; None without one.

    Reads cgroup v2 (`cpu.max`, kernel documentation "Control Group v2") and v1 (`cpu.cfs_quota_us`).
    """
    quotas = map(_quota, cgroup_folders(root, membership))
    return min((quota for quota in quotas if quota is not None), default=None)


def cgroup_folders(root: Path, membership: Path) -> Iterator[Path]:
    """Folders of the CPU controller's cgroups that this process is in, each before the one above it.

    `root` is where cgroups are mounted, `membership` is /proc/self/cgroup.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root
        elif "cpu" in controllers.split(","):
            base = root / controllers  # where it is mounted; mostly "cpu" is a link to it
            base = base if base.is_dir() else root / "cpu"
        else:
            continue
        folder = base / path.lstrip("/")
        for level in (folder, *folder.parents):
            yield level
            if level == base:
                break


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None
    return None if limit in ("max", "-1") else int(limit) / int(period)


def is_arm() -> bool:
    """Whether this process runs on a 64-bit ARM CPU, as Linux, macOS or Windows call it."""
    return platform.machine().lower() in ("aarch64", "arm64")


def fingerprint(packages: Iterable[str]) -> dict[str, Any]:
    """Hardware, system and versions of those `packages` that are there; nothing names the machine or its owner."""
    return {
        "cpu": cpu_model(),
        "cpu_features": [feature for feature in CPU_FEATURES if feature in cpu_flags()],
        "architecture": platform.machine(),
        "cpus_usable": cpus(),
        "cpus_online": os.cpu_count(),
        "memory_bytes": _memory(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "gpus": gpus(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := package_version(name))},
    }


def gpu_identity() -> list[str]:
    """Driver and models of the NVIDIA GPUs as the kernel's driver tells them; no program is started for it.

    Enough to tell one machine from another. `gpus` asks nvidia-smi, which takes a second.
    """
    folder = Path("/proc/driver/nvidia")
    found = list((_read(str(folder / "version")) or "").splitlines()[:1])
    try:
        cards = sorted((folder / "gpus").iterdir())
    except OSError:
        cards = []
    for card in cards:
        lines = (_read(str(card / "information")) or "").splitlines()
        found += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    return found


def cache_folder() -> Path | None:
    """Where this user's files may lie that can be made again (XDG Base Directory Specification); None without a home.

    Nothing is made here.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    if Path(named).is_absolute():  # the specification: a relative one is to be ignored
        return Path(named) / "edgecxr"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  Path.home() raises where there is none
    return home / ".cache" / "edgecxr" if home.is_absolute() else None


def package_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def gpus() -> list[str]:
    """Name, driver and memory of each NVIDIA GPU, as nvidia-smi tells them; empty without it."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("model name", "Model")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """The processor's features by Linux's names (avx512_vnni, amx_bf16, …); empty where they can't be read."""
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
