"""What Triton's Python backend runs: the bytes of a file become a record, in one model or in the steps of an ensemble.

`edgecxr export BUNDLE --to triton` copies this file into each Python model of a repository; `role` among the parameters
of its config.pbtxt says which it is. The server's Python needs edgecxr of the version that wrote the repository, an
engine, and nothing else of the export stage.

    film         FILE -> RECORD                      as `edgecxr infer --stdin` answers, in one process
    preprocess   FILE -> IMAGE, ABOUT                first step of the ensemble
    record       ABOUT, LOGITS, OOD -> RECORD        last step of the ensemble
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import triton_python_backend_utils as server  # the server's own, there in no other process

try:
    import edgecxr
    from edgecxr.bundle import load
    from edgecxr.engines import Outputs, ort
    from edgecxr.engines.select import Choice
    from edgecxr.errors import EdgecxrError, PictureRejected
    from edgecxr.records.formats import to_line
    from edgecxr.records.prediction import Prediction
    from edgecxr.scoring import abstention, pipeline
    from edgecxr.scoring.session import Session, make_plan
    from edgecxr.system import machine
except ImportError as absent:
    raise server.TritonModelException(
        f"this model needs edgecxr in the Python of the server, run: pip install 'edgecxr[cpu]' ({absent})"
    ) from None

Said = Mapping[str, str]  # the parameters of config.pbtxt
STUB = Path("/proc/self/exe")  # the program of the backend that this runs in
KEPT = ("sha256", "bytes", "width", "height", "bits", "rendering")  # of an Item, from the first step to the last


class TritonPythonModel:
    """The interface of Triton's Python backend."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load what the role needs; raises TritonModelException, and the server then doesn't offer the model."""
        configuration = json.loads(args["model_config"])
        said = {name: value["string_value"] for name, value in configuration["parameters"].items()}
        refuse_others(said["edgecxr"])
        try:
            self._role = ROLES[said["role"]](Path(args["model_repository"]) / args["model_version"], said)
        except EdgecxrError as error:
            raise server.TritonModelException(str(error)) from None

    def execute(self, requests: Sequence[Any]) -> list[Any] | None:
        """A response for each request, with as many rows as it has; None where they are sent as they are found."""
        found: list[Any] | None = self._role.execute(requests)
        return found

    def finalize(self) -> None:
        """Answer what was asked, at the end."""
        if isinstance(self._role, Film):
            self._role.finish()


class Film:
    """Bytes to records on one Classifier, whose answers to the golden inputs are right or it isn't offered.

    As `infer --stdin`: each picture is a batch of its own, taken by the next worker that is free, and nobody waits for
    what was asked after him. No more is taken from Triton's queue than two requests a worker.
    """

    def __init__(self, folder: Path, said: Said) -> None:
        self._classifier = edgecxr.Classifier(
            folder / said["bundle_folder"],
            said["device"],
            engine=said["engine"],
            precision=said["precision"],
            workers=None,
            self_test=True,
        )
        workers = self._classifier.session.plan.workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="edgecxr")
        self._room = threading.Semaphore(2 * workers)

    def execute(self, requests: Sequence[Any]) -> None:
        """FILE, bytes (N, 1), to RECORD, JSON (N, 1), sent as soon as it is there."""
        for request in requests:
            self._room.acquire()
            files = _array(request, "FILE")[:, 0]
            waiting = Waiting(request.get_response_sender(), len(files), self._room.release)
            for row, data in enumerate(files):
                self._pool.submit(self._answer, waiting, row, data)

    def _answer(self, waiting: Waiting, row: int, data: bytes) -> None:
        found: bytes | Exception
        try:
            found = _line(self._classifier.predict(data), self._classifier.labels)
        except Exception as error:  # is told to whoever asked, who would wait for ever
            found = error
        waiting.put(row, found)

    def finish(self) -> None:
        self._pool.shutdown(wait=True)


class Waiting:
    """A request whose rows are answered one by one, by several threads; its response goes out with the last."""

    def __init__(self, sender: Any, rows: int, sent: Callable[[], object]) -> None:
        self._sender, self._sent = sender, sent
        self._found: list[bytes | Exception | None] = [None] * rows
        self._lock, self._open = threading.Lock(), rows

    def put(self, row: int, found: bytes | Exception) -> None:
        with self._lock:
            self._found[row] = found
            self._open -= 1
            if self._open:
                return
        failed = next((each for each in self._found if isinstance(each, Exception)), None)
        if failed is None:
            response = server.InferenceResponse([server.Tensor("RECORD", _strings(self._found))])
        else:
            error = server.TritonError(f"{type(failed).__name__}: {failed}")
            response = server.InferenceResponse([], error=error)
        try:
            self._sender.send(response, flags=server.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        finally:
            self._sent()


class Preprocess:
    """Bytes to the network's input, and what the record says of the file; a rejected file's input is black."""

    inputs = ("FILE",)

    def __init__(self, folder: Path, said: Said) -> None:
        self._session = _session(folder, said)
        self._pool = ThreadPoolExecutor(machine.cpus(), thread_name_prefix="edgecxr")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return together(requests, self.inputs, self.answer)

    def answer(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """FILE, bytes (N, 1), to IMAGE, uint8 (N, H, W, 1), and ABOUT, JSON (N, 1)."""
        items = list(self._pool.map(self._prepared, given["FILE"][:, 0]))
        contract = self._session.bundle.preprocessing
        images = np.zeros((len(items), contract.height, contract.width, 1), dtype=np.uint8)
        for row, item in zip(images, items, strict=True):
            if item.image is not None:
                row[..., 0] = item.image
        return {"IMAGE": images, "ABOUT": _strings(json.dumps(_about(item)).encode() for item in items)}

    def _prepared(self, data: bytes) -> pipeline.Item:
        item = pipeline.Item()
        try:
            picture = pipeline.decode(self._session, item, pipeline.read(item, data))
            pipeline.prepare(self._session, item, picture)
        except PictureRejected as rejected:
            item.rejected = rejected
        return item


class Record:
    """What the network said of a picture, and what is known of its file, to a record."""

    def __init__(self, folder: Path, said: Said) -> None:
        self._session = _session(folder, said)
        self.inputs = ("ABOUT", *said["outputs"].split())

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return together(requests, self.inputs, self.answer)

    def answer(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """ABOUT, JSON (N, 1), LOGITS (N, K) and, where the network has it, OOD (N, 1), to RECORD, JSON (N, 1)."""
        oods = given.get("OOD", [None] * len(given["ABOUT"]))
        evidence = np.empty((0, 0, 0), dtype=np.float32)  # no record holds it
        found = [
            pipeline.predict(self._session, _item(about), Outputs(logits, evidence, ood))
            for about, logits, ood in zip(given["ABOUT"][:, 0], given["LOGITS"], oods, strict=True)
        ]
        return {"RECORD": _strings(_line(prediction, self._session.bundle.labels) for prediction in found)}


def together(
    requests: Sequence[Any], inputs: Sequence[str], answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> list[Any]:
    """Responses to all requests of a call by one `answer`, each with as many rows as its request."""
    given = [{name: _array(request, name) for name in inputs} for request in requests]
    ends = np.cumsum([len(arrays[inputs[0]]) for arrays in given])[:-1]
    found = answer({name: np.concatenate([arrays[name] for arrays in given]) for name in inputs})
    parts = {name: np.split(array, ends) for name, array in found.items()}
    return [
        server.InferenceResponse([server.Tensor(name, rows[i]) for name, rows in parts.items()])
        for i in range(len(requests))
    ]


ROLES: dict[str, Callable[[Path, Said], Any]] = {"film": Film, "preprocess": Preprocess, "record": Record}


def refuse_others(written_by: str, backend: Path = STUB) -> None:
    """Raise TritonModelException where this Python has another edgecxr, or a numpy that the backend can't read.

    The backend of before Triton 24.12 was built for numpy 1: with numpy 2 its tensors come out empty, and nothing says
    so (triton-inference-server/python_backend, pull request 384). It is known by the module of numpy 1 that it names.
    """
    if edgecxr.__version__ != written_by:
        raise server.TritonModelException(
            f"the Python of the server must have the edgecxr that wrote this repository, {written_by}; install that or "
            f"export again, got edgecxr {edgecxr.__version__}"
        )
    if not np.__version__.startswith("1.") and b"numpy.core.multiarray" in backend.read_bytes():
        raise server.TritonModelException(
            "the Python backend of this server reads arrays of numpy 1 only, as before Triton 24.12; run: pip install "
            f"'numpy<2', got numpy {np.__version__}"
        )


def _session(folder: Path, said: Said) -> Session:
    """What a step of the ensemble needs of a session: the bundle's manifest and what the network's model computes on.

    The network itself is another model of the repository, run by the server.
    """
    bundle = load(folder / said["bundle_folder"])
    artifact = next(each for each in bundle.artifacts if each.file == said["artifact"])
    device, precision = said["device"], said["precision"]
    network: Any = SimpleNamespace(name=ort.NAME, provider=ort.PROVIDERS[device], device=device, precision=precision)
    rule = abstention.rule(bundle.abstention, Choice(artifact, ort.NAME, device, precision))
    return Session(bundle, artifact, network, make_plan(device, machine.cpus()), rule)


def _about(item: pipeline.Item) -> dict[str, Any]:
    rejected = item.rejected and [item.rejected.code, item.rejected.message]
    return {**{name: getattr(item, name) for name in KEPT}, "rejected": rejected}


def _item(about: bytes) -> pipeline.Item:
    known = json.loads(about)
    rejected = known.pop("rejected")
    return pipeline.Item(**known, rejected=PictureRejected(*rejected) if rejected else None)


def _line(prediction: Prediction, labels: Sequence[str]) -> bytes:
    return to_line(prediction.to_record(labels)).rstrip("\n").encode()


def _strings(strings: Iterable[object]) -> Any:
    """(N, 1) of bytes, as Triton has strings."""
    return np.array([[each] for each in strings], dtype=np.object_)


def _array(request: Any, name: str) -> Any:
    return server.get_input_tensor_by_name(request, name).as_numpy()
