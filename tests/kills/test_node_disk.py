"""A disk that is really full under the spool of a node: what was acknowledged has its result once there is room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clinic.ends import Archive, film, send, wait_for
from edgecxr.bundle import load
from edgecxr.clinic.report import result_uid
from kills.mounts import mounting

SIZE, FILMS = 400, 30  # KiB of the disk; a film takes some 20, and as much once it has its result


@pytest.mark.slow
@pytest.mark.parametrize("keep_free", [0, 0.0001], ids=["to-the-last-byte", "with-room-left"])
def test_what_was_acknowledged_on_a_full_disk_has_its_result_once_there_is_room(
    tiny_bundle: Path, tmp_path: Path, keep_free: float
) -> None:
    archive, place = Archive(), tmp_path / "disk"
    place.mkdir()
    archive.open()
    options = f"-m {tiny_bundle} --engine onnxruntime -j 1 --port 0 --keep-free {keep_free} --send {archive.target}"
    script = (
        f"mount -t tmpfs -o size={SIZE}k none {place}; "
        f"{sys.executable} -m edgecxr listen --spool {place}/spool {options} & "
        f"read more; mount -o remount,size=64m {place}; read end; kill $!; wait $!; ls -A {place}/spool/incoming"
    )
    node = subprocess.Popen([*mounting(), "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert node.stdin is not None and node.stdout is not None
    port = int(node.stdout.readline().split()[-1])
    said = {f"1.2.{number}": send(port, film(f"1.2.{number}", number)) for number in range(FILMS)}
    node.stdin.write("more\n")
    node.stdin.flush()
    kept = {uid for uid, statuses in said.items() if statuses == [0]}
    assert {tuple(statuses) for statuses in said.values()} == {(0,), (0xA700,)}
    assert len(kept) >= 3
    expected = {result_uid(uid, load(tiny_bundle).digest) for uid in kept}
    wait_for(lambda: {uid for uid, _ in archive.got} >= expected, 120)
    again = next(uid for uid in said if uid not in kept)
    assert send(port, film(again, int(again.split(".")[-1]))) == [0]
    wait_for(lambda: len(archive.got) == len(kept) + 1, 120)
    half_received, _ = node.communicate("end\n", 60)
    archive.close()
    assert half_received == ""
    assert len({uid for uid, _ in archive.got}) == len(archive.got)
