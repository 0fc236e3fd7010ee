"""Fetching from Kaggle: the real kagglehub against a server of ours and against no network, and every way it fails."""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from radiography_trees import contents, fourth_release
from typer.testing import CliRunner, Result

from edgecxr.cli import data as cli_data
from edgecxr.errors import DataError, EdgecxrError, UnavailableError, UsageError
from edgecxr.lab.data.kaggle import download

kagglehub = pytest.importorskip("kagglehub")
exceptions = pytest.importorskip("kagglehub.exceptions")
requests = pytest.importorskip("requests")

Run = Callable[..., subprocess.CompletedProcess[str]]
HANDLE = "someone/radiography-database"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli_data.app, ["kaggle", *map(str, arguments)])


def answer(status: int) -> Any:
    response = requests.Response()
    response.status_code = status
    return exceptions.KaggleApiHTTPError("Traceback\nof many\nlines", response=response)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(401), UnavailableError, "wants credentials"),
        (answer(403), UnavailableError, "no such data set, or wants credentials"),
        (answer(404), UsageError, f"Kaggle has no data set {HANDLE}"),
        (answer(503), UnavailableError, "HTTP status 503"),
        (exceptions.UnauthenticatedError(), UnavailableError, "wants credentials"),
        (exceptions.CredentialError("no token"), UnavailableError, "wants credentials"),
        (requests.ConnectionError("no route"), UnavailableError, "is there a network"),
        (requests.Timeout(), UnavailableError, "is there a network"),
        (exceptions.DataCorruptionError("md5"), UnavailableError, "damaged"),
        (zipfile.BadZipFile("crc"), UnavailableError, "damaged"),
        (ValueError("Invalid Kaggle credentials file"), UnavailableError, "Invalid Kaggle credentials file"),
        (exceptions.BackendError("mount"), UnavailableError, "BackendError: mount"),
        (OSError(28, "No space left on device"), UsageError, "No space left on device"),
    ],
)
def test_every_failure_of_kagglehub_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, kind: type[EdgecxrError], words: str
) -> None:
    def fail(handle: str) -> str:
        raise error

    monkeypatch.setattr(kagglehub, "dataset_download", fail)
    result = call(HANDLE, "-o", tmp_path / "out")
    assert type(result.exception) is kind
    assert words in str(result.exception)
    assert HANDLE in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["kagglehub", "requests"])
def test_without_the_extra_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnavailableError, match=r"pip install 'edgecxr\[kaggle\]'"):
        download(HANDLE)


@pytest.mark.parametrize(
    "handle", ["radiography", "a/b/c", "a/b/versions/x", "a/b/versions/0", "../b", "a/", "/b", "a b/c", "a/b\n", "ä/b"]
)
def test_a_name_that_is_none_is_refused_before_any_call(monkeypatch: pytest.MonkeyPatch, handle: str) -> None:
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: pytest.fail("called"))
    with pytest.raises(UsageError, match="is named OWNER/NAME"):
        download(handle)


def test_an_output_in_use_is_refused_before_the_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: pytest.fail("called"))
    (tmp_path / "mine.txt").write_text("mine")
    result = call(HANDLE, "-o", tmp_path)
    assert isinstance(result.exception, UsageError)
    assert "absent or empty" in str(result.exception)


def test_a_download_of_another_layout_is_refused_and_its_place_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "train").mkdir(parents=True)
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: str(tmp_path / "cache"))
    result = call(HANDLE, "-o", tmp_path / "out")
    assert isinstance(result.exception, DataError)
    assert f"the download stays in kagglehub's cache: {tmp_path / 'cache'}" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_what_kagglehub_says_stays_off_stdout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def chatty(handle: str) -> str:
        print("Downloading …")
        return str(fourth_release(tmp_path / "cache"))

    monkeypatch.setattr(kagglehub, "dataset_download", chatty)
    result = call(HANDLE, "-o", tmp_path / "out", "--lung-opacity")
    assert result.exit_code == 0, result.output
    assert "Downloading" not in result.stdout
    assert "Downloading" in result.stderr
    assert result.stdout.startswith("8 pictures in ")
    assert "  lung_opacity 2\n" in result.stdout


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials, no notebook's cache, no proxy: the home of someone who never used Kaggle."""
    for name in os.environ:
        if name.startswith(("KAGGLE", "TBE_", "COLAB")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(home / "cache"))
    return home


def test_without_a_network_the_real_call_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, bare: Path, tmp_path: Path, edgecxr: Run
) -> None:
    with socket.socket() as closed:  # bound and not listening: whoever connects is refused at once
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed.getsockname()[1]}")
        result = edgecxr("data", "kaggle", HANDLE, "-o", tmp_path / "out", timeout=60)
    assert result.returncode == 4, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("edgecxr: Kaggle can't be reached")
    assert not (tmp_path / "out").exists()


class _Kaggle(BaseHTTPRequestHandler):
    """The two calls that kagglehub makes for a data set: its newest version's number, and its archive."""

    archive = b""
    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.status != 200:
            self._send(self.status, "application/json", json.dumps({"message": "no"}).encode())
        elif self.path.endswith("/GetDataset"):
            self._send(200, "application/json", json.dumps({"currentVersionNumber": 5}).encode())
        else:
            self._send(200, "application/zip", self.archive)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, bare: Path) -> Iterator[type[_Kaggle]]:
    """The real kagglehub, talking to a server on this machine."""
    kaggle_env = pytest.importorskip("kagglesdk.kaggle_env")
    handler = type("Handler", (_Kaggle,), {})
    with HTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setitem(
            kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, f"http://127.0.0.1:{listening.server_port}"
        )
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        yield handler
        listening.shutdown()
        thread.join()


def test_a_data_set_is_downloaded_unpacked_and_imported(server: type[_Kaggle], bare: Path, tmp_path: Path) -> None:
    root = fourth_release(tmp_path / "in")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for file, content in contents(root.parent).items():
            opened.writestr(file, content)
    server.archive = archive.getvalue()
    result = call(HANDLE, "-o", tmp_path / "out")
    assert result.exception is None, result.output
    assert sorted(contents(tmp_path / "out")) == [
        "covid/COVID-1.png",
        "covid/COVID-10.png",
        "covid/COVID-2.png",
        "normal/Normal-1.png",
        "normal/Normal-2.png",
        "viral_pneumonia/Viral Pneumonia-1.png",
    ]
    assert (bare / "cache" / "datasets" / HANDLE / "versions" / "5").is_dir()


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, UnavailableError, "wants credentials"),
        (403, UnavailableError, "refuses"),
        (404, UsageError, "has no data set"),
        (500, UnavailableError, "500"),
    ],
)
def test_what_the_server_refuses_is_one_sentence(
    server: type[_Kaggle], status: int, kind: type[EdgecxrError], words: str
) -> None:
    server.status = status
    with pytest.raises(EdgecxrError, match=words) as caught:
        download(HANDLE)
    assert caught.type is kind


def test_an_archive_that_is_none_is_one_sentence(server: type[_Kaggle]) -> None:
    server.archive = b"<html>log in</html>"
    with pytest.raises(UnavailableError, match="can't bring someone/radiography-database"):
        download(HANDLE)
