"""A cluster of several nodes on this machine: actors, a node and the driver are killed, the store is slow or closed.

`pytest -m ray -n 0`; CONTRIBUTING says what to install. Minutes: Ray takes ten seconds to begin, and a dead node half a
minute to be noticed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from common import command_line
from edgecxr.cluster.output import JOURNAL
from kills.runs import pictures
from records_of import rows, same

pytestmark = pytest.mark.ray

START_SECONDS = 300.0  # for a node on a busy machine
RUN_SECONDS = 600.0
PICTURES = 128  # eight parts of sixteen, and one of a few more


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_for(done: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"{what} took more than {seconds} s"
        time.sleep(0.5)


def processes(*words: str) -> list[int]:
    """Processes whose command line holds each of `words`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(entry.name))
    return found


def parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


class Cluster:
    """A head, and nodes that come and go; a home folder of its own, in which nothing may be left."""

    def __init__(self, folder: Path) -> None:
        # Sockets have short names; pytest's folders don't.
        self.session = Path(f"/tmp/exr-{secrets.token_hex(3)}")
        self.home = folder / "home"
        self.home.mkdir()
        (self.port,) = free_ports(1)
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # else a busy machine leaves them nothing
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.running: list[subprocess.Popen[bytes]] = []
        self.log = (folder / "ray.log").open("wb")
        where = ["--head", "--port", str(self.port), "--include-dashboard=false", "--temp-dir", str(self.session)]
        self._start("--num-cpus", "1", *where)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def join(self) -> subprocess.Popen[bytes]:
        """One more node of one CPU."""
        return self._start("--num-cpus", "1", "--address", self.address)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        before = len(self.raylets())
        names = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export")
        ports = [f"--{name}-port={port}" for name, port in zip(names, free_ports(4), strict=True)]
        command = ["ray", "start", "--block", "--node-ip-address=127.0.0.1", "--object-store-memory=200000000"]
        started = subprocess.Popen(
            [*command, *ports, *arguments],
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        self.running.append(started)
        wait_for(lambda: len(self.raylets()) > before or started.poll() is not None, START_SECONDS, "a node")
        text = Path(self.log.name)
        runtimes = len(self.running)
        wait_for(
            lambda: text.read_bytes().count(b"will now block forever") == runtimes or started.poll() is not None,
            START_SECONDS,
            "a node's start",
        )
        assert started.poll() is None, text.read_text(errors="replace")[-2000:]
        return started

    def raylets(self) -> list[int]:
        return processes("raylet/raylet ", str(self.session))

    def workers(self) -> list[int]:
        """Processes of its nodes that score, or wait to."""
        own = set(self.raylets())
        return [each for each in processes("ray::", "MapWorker") if parent(each) in own]

    def infer(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "edgecxr", "infer", *map(str, arguments), "--ray", self.address]
        return subprocess.Popen(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )

    def close(self) -> None:
        for started in reversed(self.running):
            started.terminate()
        for started in self.running:
            started.wait(60)
        for left in processes(str(self.session)):
            os.kill(left, signal.SIGKILL)
        shutil.rmtree(self.session, ignore_errors=True)
        self.log.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("ray")
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.join()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("films") / "in", PICTURES)


@pytest.fixture(scope="module")
def expected(films: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What plain `infer` writes of the same films, with the default model: it takes a while, so that there is one in
    which something can be killed."""
    return plain(films, tmp_path_factory.mktemp("plain") / "plain.jsonl")


def plain(films: Path, out: Path, *more: object) -> list[dict[str, Any]]:
    assert command_line(["infer", str(films), "-o", str(out), "-q", *map(str, more)]).returncode == 1
    return same(json.loads(line) for line in out.read_text().splitlines())


def parts_in(folder: Path) -> int:
    journal = folder.with_name(f"{folder.name}.part") / JOURNAL
    return journal.read_bytes().count(b'"part"') if journal.exists() else 0


def finished(run: subprocess.Popen[str], code: int = 1) -> str:
    out, err = run.communicate(timeout=RUN_SECONDS)
    assert run.returncode == code, err
    return out


def test_killed_workers_lose_nothing_and_double_nothing(
    cluster: Cluster, films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = cluster.infer(films, "-o", out, "--json", "-q")
    wait_for(lambda: parts_in(out) >= 2 or run.poll() is not None, RUN_SECONDS, "the first parts")
    killed = cluster.workers()
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    summary = json.loads(finished(run))
    assert killed
    assert same(rows(out)) == expected
    assert summary["records"] == len(expected)


def test_a_killed_driver_keeps_its_parts_and_resume_goes_on(
    cluster: Cluster, films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = cluster.infer(films, "-o", out, "-q")
    wait_for(lambda: parts_in(out) >= 2 or run.poll() is not None, RUN_SECONDS, "the first parts")
    run.kill()
    finished(run, -signal.SIGKILL)
    assert not out.exists()
    kept = rows(out.with_name("out.part"))
    assert kept
    summary = json.loads(finished(cluster.infer(films, "-o", out, "-q", "--json", "--resume")))
    assert summary["resumed"] >= 2 * 16
    assert same(rows(out)) == expected


def test_a_killed_node_loses_nothing_and_doubles_nothing(
    cluster: Cluster, films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out, before = tmp_path / "out", set(cluster.raylets())
    cluster.join()
    (raylet,) = set(cluster.raylets()) - before
    run = cluster.infer(films, "-o", out, "--json", "-q")
    wait_for(lambda: parts_in(out) >= 2 or run.poll() is not None, RUN_SECONDS, "the first parts")
    os.kill(raylet, signal.SIGKILL)  # its workers end with it
    finished(run)
    assert same(rows(out)) == expected


def test_ctrl_c_keeps_what_was_finished(
    cluster: Cluster, films: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run = cluster.infer(films, "-o", out, "-q")
    wait_for(lambda: parts_in(out) >= 1 or run.poll() is not None, RUN_SECONDS, "the first part")
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=RUN_SECONDS)
    assert (run.returncode, err.count("\n")) == (130, 1), err
    finished(cluster.infer(films, "-o", out, "-q", "--resume"))
    assert same(rows(out)) == expected


# Stores


@contextmanager
def slow(port: int, seconds: float) -> Iterator[int]:
    """The port of a server that hands GET and HEAD on to another after a while, and answers one in ten with 503."""
    asked = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            nonlocal asked
            asked += 1
            if self.command == "GET" and "?" not in self.path:
                time.sleep(seconds)
                if asked % 10 == 0:
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}{self.path}", headers=headers, method=self.command
            )
            try:
                with urllib.request.urlopen(request) as found:
                    status, given, body = found.status, found.headers, found.read()
            except urllib.error.HTTPError as error:
                status, given, body = error.code, error.headers, error.read()
            self.send_response(status)
            for name, value in given.items():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            if "Content-Length" not in given:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def s3(films: Path) -> Iterator[int]:
    """The port of moto's server with the films in `films/a`, of which two aren't anything there."""
    pytest.importorskip("moto")
    (port,) = free_ports(1)
    program = Path(sys.executable).with_name("moto_server")
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", port)) == 0

        wait_for(answers, 120, "moto")
        import boto3

        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", **keys)
        client.create_bucket(Bucket="films")
        for path in sorted(films.iterdir())[:64]:
            if path.exists():
                client.put_object(Bucket="films", Key=f"a/{path.name}", Body=path.read_bytes())
        yield port
    finally:
        server.terminate()
        server.wait(30)


def at(port: int, what: str = "films/a") -> str:
    return f"s3://{what}?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


def closed(port: int, after: bytes) -> None:
    """After how many requests moto asks for rights, which nobody has."""
    address, kind = f"http://127.0.0.1:{port}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(address, data=after, method="POST", headers=kind)).close()


def test_a_bucket_is_scored_through_a_slow_store(
    cluster: Cluster, s3: int, films: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    expected = plain(films, tmp_path / "plain.jsonl", "-m", tiny_bundle)
    with slow(s3, 0.3) as port:
        finished(cluster.infer(at(port), "-m", tiny_bundle, "-o", out, "-q"))
    found = rows(out)
    local = [row for row in expected if Path(row["path"]).exists()][: len(found)]
    assert [row["path"] for row in found] == [f"s3://films/a/{Path(row['path']).name}" for row in local]
    assert [row["error_code"] for row in found] == [row["error_code"] for row in local]
    assert [(row["sha256"], row["label"]) for row in found if row["bytes"]] == [
        (row["sha256"], row["label"]) for row in local if row["bytes"]
    ]
    assert b"endpoint" not in (out / JOURNAL).read_bytes()


def test_a_bucket_without_rights_or_that_is_not_there_is_one_sentence(
    cluster: Cluster, s3: int, tiny_bundle: Path, tmp_path: Path
) -> None:
    run = cluster.infer(at(s3, "elsewhere/a"), "-m", tiny_bundle, "-o", tmp_path / "out")
    _, err = run.communicate(timeout=RUN_SECONDS)
    assert (run.returncode, err.count("\n")) == (2, 1), err
    closed(s3, b"0")
    try:
        run = cluster.infer(at(s3), "-m", tiny_bundle, "-o", tmp_path / "out")
        _, err = run.communicate(timeout=RUN_SECONDS)
    finally:
        closed(s3, b"inf")
    assert (run.returncode, err.count("\n")) == (2, 1), err
    assert "can't be listed" in err
    assert err.strip().endswith("s3://films/a")
    assert list(tmp_path.iterdir()) == []


# Addresses


class NoRay(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("what", ["nothing", "a web server", "silence"])
def test_where_no_ray_is_is_told_within_ten_seconds(
    what: str, films: Path, tiny_bundle: Path, tmp_path: Path, edgecxr: Callable[..., Any]
) -> None:
    pytest.importorskip("ray")
    with ExitStack() as held:
        if what == "a web server":
            server = ThreadingHTTPServer(("127.0.0.1", 0), NoRay)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            held.callback(server.server_close)
            held.callback(server.shutdown)
            port = server.server_address[1]
        else:
            silent = held.enter_context(socket.socket())
            silent.bind(("127.0.0.1", 0))
            if what == "silence":
                silent.listen()
            port = silent.getsockname()[1]
        import ray.data  # noqa: F401  # its import is no wait for an answer

        begin = time.monotonic()
        done = edgecxr("infer", films, "--ray", f"127.0.0.1:{port}", "-m", tiny_bundle, "-o", tmp_path / "out")
        seconds = time.monotonic() - begin
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert f"no Ray answers at 127.0.0.1:{port}" in done.stderr
    assert seconds < 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("import ray; ray.__version__ = '2.0.0'", "Version mismatch"),
        ("import os; os.environ.pop('RAY_AUTH_TOKEN')", ""),
    ],
)
def test_a_ray_of_another_version_or_with_another_token_is_one_sentence(
    cluster: Cluster, films: Path, tiny_bundle: Path, tmp_path: Path, setting: str, words: str
) -> None:
    call = ["edgecxr", "infer", str(films), "--ray", cluster.address, "-m", str(tiny_bundle), "-o", "out"]
    code = f"import sys; {setting}; from edgecxr.cli import main; sys.argv = {call!r}; main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=cluster.environment, cwd=tmp_path, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (4, 1), done.stderr
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_local_one_leaves_nothing(films: Path, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    home, scratch = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    # Sockets have short names.
    scratch = Path(f"/tmp/exr-{secrets.token_hex(3)}")
    scratch.mkdir()
    kept = {name: value for name, value in os.environ.items() if not re.match("RAY_|XDG_", name)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edgecxr", "infer", films, "--ray", "local", "-o", "out", "-q"],
            env={**kept, "HOME": str(home), "TMPDIR": str(scratch)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr == ""
        assert same(rows(tmp_path / "out")) == expected
        assert list(home.rglob("*")) == []
        assert list(scratch.iterdir()) == []
        wait_for(lambda: not processes(str(scratch)), 30, "the end of Ray's processes")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def test_nothing_was_left_in_a_home(cluster: Cluster) -> None:
    assert list(cluster.home.rglob("*")) == []
