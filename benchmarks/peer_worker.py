"""One way of running the classifier over files, in a process of its own; started by peers.py, which says when to go.

    python benchmarks/peer_worker.py '{"kind": "ort", "model": "model.int8.onnx", …}' FILES.json

It loads, says that it is ready, and for each line on stdin (a JSON list of places in FILES.json) runs those files and
prints how long that took. Every peer reads each file, decodes it in full to grey, resizes it to the network's input and
ends with logits in memory; edgecxr does what `infer` does, records in a file included.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Run = Callable[[Sequence[Path]], dict[str, float] | None]  # extra figures, if there are any

KERAS_BATCH = 32  # the default of Model.predict


def decode(path: Path, size: int) -> np.ndarray:
    """What a plain program does: the whole picture, grey, resized; uint8 (size, size, 1)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((size, size), Image.Resampling.BILINEAR))[..., None]


def keras(size: int, run: str | None, blocks: int) -> Run:
    """`Model.predict`, "designed for batch processing of large numbers of inputs" (keras.io, Model.predict)."""
    model = keras_model(size, run, blocks)

    def go(files: Sequence[Path]) -> None:
        for first in range(0, len(files), KERAS_BATCH):
            batch = np.stack([decode(path, size) for path in files[first : first + KERAS_BATCH]])
            model.predict(batch, batch_size=KERAS_BATCH, verbose=0)

    return go


def keras_model(size: int, run: str | None, blocks: int) -> Any:
    """The trained model of a RUN, or the same architecture with fresh weights: as fast, and its answers aren't used."""
    from edgecxr.lab.run import read_run
    from edgecxr.lab.train import model as models
    from edgecxr.lab.train.recipes import recipe

    if run:
        return models.load_run(read_run(Path(run)))
    return models.build(replace(recipe("default"), input_size=size, middle_blocks=blocks), 3)


def build_fp32(size: int, run: str | None, blocks: int, target: Path) -> None:
    """The Keras model as `edgecxr export` converts it to ONNX fp32."""
    from edgecxr.lab.run import read_run
    from edgecxr.lab.train.recipes import recipe
    from edgecxr_export.graphs import deploy, onnx_graph

    chosen = read_run(Path(run)).recipe if run else recipe("default")
    model = deploy.deploy_model(keras_model(size, run, blocks), replace(chosen, input_size=size, middle_blocks=blocks))
    target.write_bytes(onnx_graph.serialise(onnx_graph.convert(model, 17), {}))


def ort(model: str, size: int, threads: int) -> Run:
    """One session, all its threads on each picture, every graph optimisation (its default)."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else it reports its use
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def go(files: Sequence[Path]) -> None:
        for path in files:
            session.run(["logits"], {name: decode(path, size)[None]})

    return go


def openvino_compiled(model: str, size: int, threads: int, hint: str) -> Any:
    """The network with a batch of 1, in its own precision: by default fp32 would become bfloat16 here."""
    import openvino as ov

    core = ov.Core()
    network = core.read_model(model)
    network.reshape([1, size, size, 1])
    settings = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    return core.compile_model(network, "CPU", settings)


def openvino(model: str, size: int, threads: int, hint: str) -> Run:
    """LATENCY: one request after the other. THROUGHPUT: AsyncInferQueue, as "Optimizing for Throughput" advises."""
    import openvino as ov

    compiled = openvino_compiled(model, size, threads, hint)
    if hint == "LATENCY":
        request = compiled.create_infer_request()

        def go(files: Sequence[Path]) -> None:
            for path in files:
                request.infer([decode(path, size)[None]])["logits"]

        return go
    queue = ov.AsyncInferQueue(compiled)
    queue.set_callback(lambda request, place: request.get_tensor("logits").data.copy())

    def go_async(files: Sequence[Path]) -> None:
        for place, path in enumerate(files):
            queue.start_async([decode(path, size)[None]], place)
        queue.wait_all()

    return go_async


def litert(model: str, size: int, threads: int) -> Run:
    """One interpreter with XNNPACK (its default on CPUs) and all threads."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    outputs = interpreter.get_output_details()
    logits = next(output["index"] for output in outputs if len(output["shape"]) == 2)

    def go(files: Sequence[Path]) -> None:
        for path in files:
            interpreter.set_tensor(entry["index"], decode(path, size)[None].astype(entry["dtype"], copy=False))
            interpreter.invoke()
            interpreter.get_tensor(logits)

    return go


def direct(model: str, size: int, threads: int) -> Run:
    """OpenVINO called directly, on pictures that are decoded already: what its engine here is compared with."""
    request = openvino_compiled(model, size, threads, "LATENCY").create_infer_request()
    return model_only(lambda image: request.infer([image])["logits"], size)


def engine_alone(bundle: str, engine: str, precision: str, size: int) -> Run:
    """An engine of edgecxr's with every thread on one picture, likewise."""
    from edgecxr import Classifier

    return model_only(Classifier(bundle, engine=engine, precision=precision, workers=1).session.engine.run, size)


def model_only(call: Callable[[np.ndarray], Any], size: int) -> Run:
    inputs: list[np.ndarray] = []

    def go(files: Sequence[Path]) -> None:
        if not inputs:  # in the warm-up
            inputs.extend(decode(path, size)[None] for path in files)
        for _, image in zip(files, itertools.cycle(inputs), strict=False):
            call(image)

    return go


def edgecxr(bundle: str, engine: str, precision: str) -> Run:
    """What `edgecxr infer` does between loading the model and its summary."""
    from edgecxr import Classifier

    classifier = Classifier(bundle, engine=engine, precision=precision, workers=None)
    scratch = Path(tempfile.mkdtemp()) / "records.jsonl"

    def go(files: Sequence[Path]) -> None:
        with scratch.open("w") as sink:
            for prediction in classifier.stream(files):
                if prediction.status == "rejected":
                    raise SystemExit(f"rejected: {prediction.error_message}")
                sink.write(json.dumps(prediction.to_record(classifier.labels)) + "\n")

    return go


def bound(bundle: str, engine: str, precision: str) -> Run:
    """edgecxr's own steps one after the other in one thread: what no number of workers can beat."""
    from edgecxr import Classifier
    from edgecxr.bench.stages import STAGES, StageClock

    session = Classifier(bundle, engine=engine, precision=precision, workers=1, threads=1).session

    def go(files: Sequence[Path]) -> dict[str, float]:
        clock = StageClock(session, list(files))
        for _ in files:
            clock()
        return dict(zip(STAGES, np.sum(clock.seconds, axis=0).tolist(), strict=True))

    return go


def load(peer: dict[str, Any]) -> Run:
    kind, size, threads = peer["kind"], peer["size"], peer["threads"]
    if kind == "keras":
        return keras(size, peer["run"], peer["middle_blocks"])
    if kind == "ort":
        return ort(peer["model"], size, threads)
    if kind == "openvino":
        return openvino(peer["model"], size, threads, peer["hint"])
    if kind == "litert":
        return litert(peer["model"], size, threads)
    if kind == "direct":
        return direct(peer["model"], size, threads)
    if kind == "engine":
        return engine_alone(peer["bundle"], peer["engine"], peer["precision"], size)
    make = {"edgecxr": edgecxr, "bound": bound}[kind]
    return make(peer["bundle"], peer["engine"], peer["precision"])


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    peer = json.loads(sys.argv[1])
    if peer["kind"] == "build-fp32":
        build_fp32(peer["size"], peer["run"], peer["middle_blocks"], Path(peer["model"]))
        return
    files = [Path(name) for name in json.loads(Path(sys.argv[2]).read_text())]
    go = load(peer)
    go(list(itertools.islice(files, peer["warm_up"])))
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        chosen = [files[place] for place in json.loads(line)]
        begin = time.perf_counter()
        extra = go(chosen)
        print(json.dumps({"seconds": time.perf_counter() - begin, **(extra or {})}), flush=True)


if __name__ == "__main__":
    main()
