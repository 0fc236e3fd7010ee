"""SECURITY.md's way onto a device without a network: its commands, read from there, run with no index."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common import ROOT


def command(name: str) -> str:
    text = (ROOT / "SECURITY.md").read_text()
    found = re.search(rf"<!-- air-gapped: {name} -->\n```bash\n(.+?)```", text, flags=re.DOTALL)
    assert found, name
    return found[1]


def without_network() -> list[str]:
    """What runs a command where there is no network; nothing where that can't be had."""
    for way in (["unshare", "-n"], ["unshare", "-rn"]):
        if shutil.which("unshare") and subprocess.run([*way, "true"], check=False, capture_output=True).returncode == 0:
            return way
    return []


@pytest.mark.long
def test_wheels_are_carried_over_and_score_there(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "python")], check=True)
    environment = {**os.environ, "PATH": f"{tmp_path / 'python' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    ignored = shutil.ignore_patterns(".git", ".*_cache", "__pycache__", "tests", "benchmarks")
    shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored)
    built = subprocess.run(
        ["bash", "-euc", command("build")], cwd=tmp_path / "checkout", env=environment, check=False, capture_output=True
    )
    assert built.returncode == 0, built.stderr
    device = tmp_path / "device"
    device.mkdir()
    shutil.move(tmp_path / "checkout" / "wheelhouse", device / "wheelhouse")
    shutil.copytree(ROOT / "samples", device / "samples")
    # Whatever an index would be asked by mistake, it isn't there.
    environment |= {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    script = command("install") + ".venv/bin/edgecxr infer samples -o records.jsonl --self-test\n"
    done = subprocess.run(
        [*without_network(), "bash", "-euc", script],
        cwd=device,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (device / "records.jsonl").read_text().splitlines()]
    assert len(records) == len(list((ROOT / "samples").iterdir()))
    assert {record["status"] for record in records} <= {"scored", "abstained"}  # drawn, and no films
    # And a wheel that was damaged on the way isn't installed.
    wheel = next((device / "wheelhouse").glob("edgecxr-*.whl"))
    damaged = bytearray(wheel.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    wheel.write_bytes(damaged)
    shutil.rmtree(device / ".venv")
    again = subprocess.run(
        ["bash", "-euc", command("install")], cwd=device, env=environment, check=False, capture_output=True, text=True
    )
    assert again.returncode != 0
    assert not (device / ".venv").exists()
