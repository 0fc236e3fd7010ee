"""How many times as fast networks of fewer pixels and middle blocks are, on each engine.

    python benchmarks/edge_speeds.py 299/8 224/8 192/2 -o benchmarks/results/edge-speeds.json

The first point is what the others are compared with. Weights are fresh: what they are doesn't change a speed. Files are
made once and kept in the cache. All three engines must be installed, or `--kinds` name those that are. Calls are with
one picture on one thread, all points in each round in random order, and a ratio is the median over rounds of the ratio
within a round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecxr.bench import environment
from edgecxr.engines import Engine, litert, ort, ov
from edgecxr.lab.train.fit import default_cache
from edgecxr.lab.train.model import build
from edgecxr.lab.train.recipes import recipe
from edgecxr_export.graphs import deploy, onnx_graph, tflite
from edgecxr_export.int8.networks import Networks
from edgecxr_export.int8.quantize import calibration_inputs
from edgecxr_export.int8.ways import Quantizer, Way

INT8 = "onnxruntime int8"
KINDS = ("onnxruntime fp32", INT8, "openvino fp32", "openvino int8", "litert fp32", "litert int8")
ENGINES = {"onnxruntime": ort, "openvino": ov, "litert": litert}
CALIBRATION = 4  # pictures: ranges don't change a speed
ROUNDS, CALLS = 15, 5


def network(point: str, format_: str, precision: str) -> bytes:
    """A file of that size and depth, PX/BLOCKS, with fresh weights."""
    size, blocks = map(int, point.split("/"))
    chosen = replace(recipe("default"), input_size=size, middle_blocks=blocks)
    model = build(chosen, 3)
    head = model.get_layer("logits")
    head.set_weights([head.get_weights()[0], np.ones(3, np.float32)])  # a bias of zeros would be left out
    pictures = np.random.default_rng(0).integers(0, 256, (CALIBRATION, size, size), np.uint8)
    calibration = calibration_inputs(pictures, range(CALIBRATION))
    if format_ == "tflite":
        deployed = deploy.deploy_model(model, chosen, "float32")
        return tflite.quantize(deployed, calibration) if precision == "int8" else tflite.convert(deployed)
    graph = onnx_graph.convert(deploy.deploy_model(model, chosen), 17)
    return onnx_graph.serialise(
        Quantizer(Networks(graph, calibration)).build(Way()) if precision == "int8" else graph, {}
    )


def file_of(point: str, kind: str, cache: Path) -> bytes:
    """The file that engine and precision of `kind` take, made where the cache doesn't hold it."""
    engine, precision = kind.split()
    format_ = "tflite" if engine == "litert" else "onnx"
    file = cache / f"speed-{point.replace('/', '-')}.{precision}.{format_}"
    if not file.is_file():
        partial = file.with_name(f"{file.name}.partial")
        partial.write_bytes(network(point, format_, precision))
        partial.replace(file)
    return file.read_bytes()


def speeds(points: Sequence[str], cache: Path, kind: str = INT8) -> dict[str, Any]:
    """For each point, ms of a call, MB, and how many times the speed of the first point it has."""
    engine, precision = kind.split()
    engines: dict[str, Engine] = {}
    sizes, pictures = {}, {}
    for point in points:
        model = file_of(point, kind, cache)
        sizes[point] = len(model)
        side = int(point.split("/")[0])
        pictures[point] = np.random.default_rng(1).integers(0, 256, (1, side, side, 1), np.uint8)
        engines[point] = ENGINES[engine].load(model, "cpu", precision, 1)
        for _ in range(CALLS):
            engines[point].run(pictures[point])
    rounds: dict[str, list[float]] = {point: [] for point in points}
    shuffled = random.Random(0)
    for _ in range(ROUNDS):
        for point in shuffled.sample(list(points), len(points)):
            taken = []
            for _ in range(CALLS):
                begin = time.perf_counter()
                engines[point].run(pictures[point])
                taken.append(1e3 * (time.perf_counter() - begin))
            rounds[point].append(statistics.median(taken))
    return {
        point: {
            "ms": round(statistics.median(rounds[point]), 3),
            "times_the_base": round(
                statistics.median(base / own for base, own in zip(rounds[points[0]], rounds[point], strict=True)), 3
            ),
            "megabytes": round(sizes[point] / 1e6, 2),
        }
        for point in points
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("points", nargs="+", metavar="PX/BLOCKS")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--cache", type=Path, help="folder for the files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    cache = options.cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    before = environment.snapshot()
    found = {kind: speeds(options.points, cache, kind) for kind in options.kinds}
    described = environment.describe(before, environment.snapshot())
    report = {"schema": 1, "what": "one picture a call on one thread", "speeds": found, "machine": described}
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    for kind, rows in found.items():
        for point, row in rows.items():
            print(f"{kind}, {point}: {row['ms']} ms, {row['times_the_base']} times, {row['megabytes']} MB")


if __name__ == "__main__":
    main()
