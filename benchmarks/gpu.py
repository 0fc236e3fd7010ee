"""How fast is a bundle on a GPU? Model only against the card's peak, and end to end against its slower half.

    python benchmarks/gpu.py PICTURES -m BUNDLE [-o results.json] [--device cuda] [--batch-sizes 1,8,32,64,128,256]

BUNDLE holds fp32 and fp16 ONNX files (`edgecxr export --precisions fp32,fp16,int8`; on `--device tensorrt`
int8-symmetric is taken too). Model only: pictures/s of calls from memory of the host and back, in each precision and in
each batch size, in turn over ROUNDS; the share of the card's peak counts two operations for each multiplication of the
graph's Conv, Gemm and MatMul nodes, and takes the dense figures of NVIDIA's data sheets. End to end: files to
predictions as `infer` has it, against the smaller of what the decoders give to an engine that does nothing and what the
engine takes from memory, at the same batch size.

`--device cpu` runs the same script where there is no GPU, on what the bundle holds for one: a test of the script, not a
measurement (decoders and engine then share the processor).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgecxr.bench.pictures import usable
from edgecxr.bundle import Bundle, load
from edgecxr.engines import Outputs, ort
from edgecxr.engines.select import Asked, Choice, choose, fingerprint, open_engine
from edgecxr.errors import EdgecxrError, UnavailableError
from edgecxr.pictures.sample import sample_files
from edgecxr.scoring import pipeline
from edgecxr.scoring.session import BATCH_SIZE, Session, make_plan
from edgecxr.system import machine

ROUNDS = 5
WARM_UP = 3  # calls of each shape before it is counted: cuDNN chooses its kernels in the first

MEASURED = {
    "cpu": ("fp32", "int8"),
    "cuda": ("fp32", "tf32", "fp16"),
    "tensorrt": ("tf32", "fp16", "int8-symmetric"),  # each precision that the bundle holds a file for
}

# 10^12 operations/s, dense, of NVIDIA's data sheets: fp32 of the ordinary units, TF32 and fp16 (added up in float32) of
# the matrix units. By the beginning of the name that nvidia-smi gives; the first that fits.
PEAKS: dict[str, dict[str, float]] = {
    "NVIDIA H200": {"fp32": 66.9, "tf32": 494.7, "fp16": 989.4},
    "NVIDIA H100 PCIe": {"fp32": 51.2, "tf32": 378.0, "fp16": 756.0},
    "NVIDIA H100": {"fp32": 66.9, "tf32": 494.7, "fp16": 989.4},
    "NVIDIA A100": {"fp32": 19.5, "tf32": 156.0, "fp16": 312.0},
    "NVIDIA L40S": {"fp32": 91.6, "tf32": 183.0, "fp16": 362.0},
    "NVIDIA L4": {"fp32": 30.3, "tf32": 60.0, "fp16": 121.0},
    "NVIDIA A10": {"fp32": 31.2, "tf32": 62.5, "fp16": 125.0},
    "Tesla T4": {"fp32": 8.1, "fp16": 65.0},
}


def operations(model: bytes) -> int:
    """Floating-point (or integer) operations for one picture: two for each multiplication of Conv, Gemm and MatMul."""
    graph = onnx.load_from_string(model)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(graph, data_prop=True)
    known = (*graph.graph.value_info, *graph.graph.output, *graph.graph.input)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in known}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.graph.initializer}
    made = {name: node for node in graph.graph.node for name in node.output}

    def shape(name: str) -> list[int]:
        # A quantized weight stands behind the node that dequantizes it.
        return shapes[name] if shapes.get(name) else shape(made[name].input[0])

    total = 0
    for node in graph.graph.node:
        if node.op_type == "Conv":
            # Each output is a sum over a kernel's places and its group's channels: weights (out, in/groups, h, w).
            total += 2 * int(np.prod(shapes[node.output[0]])) * int(np.prod(shape(node.input[1])[1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            total += 2 * int(np.prod(shapes[node.output[0]])) * shape(node.input[0])[-1]
    return total


def peak(card: str, precision: str) -> float | None:
    """The card's peak in 10^12 operations/s, where it is known."""
    return next((figures.get(precision) for name, figures in PEAKS.items() if card.startswith(name)), None)


def opened(bundle: Bundle, device: str) -> tuple[dict[str, tuple[Choice, Any]], dict[str, str]]:
    """(choice and engine by precision, why others can't be run)"""
    engines, left_out = {}, {}
    for precision in MEASURED[device]:
        try:
            choice = choose(bundle, Asked(ort.NAME, device, precision))
            engines[precision] = choice, open_engine(bundle, choice, machine.cpus() if device == "cpu" else 1)
        except UnavailableError as error:
            left_out[precision] = str(error)
    if not engines:
        raise UnavailableError(f"nothing can be measured: {'; '.join(left_out.values())}")
    return engines, left_out


def rate(call: Callable[[], int], seconds: float) -> float:
    """Pictures/s of calls that each give how many they did, over at least `seconds`."""
    done, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds or not done:
        done += call()
    return done / passed


def model_only(
    engines: dict[str, tuple[Choice, Any]], inputs: np.ndarray, sizes: Sequence[int], seconds: float
) -> dict[tuple[str, int], list[float] | str]:
    """Pictures/s in each round by precision and batch size, or why there are none."""
    results: dict[tuple[str, int], list[float] | str] = {}
    batches = {size: np.take(inputs, range(size), axis=0, mode="wrap") for size in sizes}
    for precision, size in itertools.product(engines, sizes):
        try:
            for _ in range(WARM_UP):
                engines[precision][1].run(batches[size])
            results[precision, size] = []
        except UnavailableError as error:  # its memory doesn't suffice
            results[precision, size] = str(error)
    for _ in range(ROUNDS):
        for (precision, size), rates in results.items():
            if not isinstance(rates, str):
                engine = engines[precision][1]
                rates.append(rate(lambda engine=engine, size=size: len(engine.run(batches[size])), seconds))
    return results


class Nothing:
    """An engine that answers at once: what is left is reading, decoding, preparing and recording."""

    name = provider = precision = "nothing"
    threads = 1

    def __init__(self, device: str, classes: int) -> None:
        self.device, self.classes = device, classes

    def run(self, images: np.ndarray) -> Outputs:
        logits = np.zeros((len(images), self.classes), dtype=np.float32)
        return Outputs(logits, logits[:, None, None])


def end_to_end(
    bundle: Bundle, choice: Choice, engine: Any, files: Sequence[Path], size: int, least: int
) -> dict[str, Any]:
    """Files to predictions, against decoders alone and the engine alone, in turn."""
    plan = make_plan(choice.device, machine.cpus(), batch_size=size)
    session = Session(bundle, choice.artifact, engine, plan)
    idle = replace(session, engine=Nothing(choice.device, len(bundle.labels)))
    many = list(itertools.islice(itertools.cycle(files), max(least, 8 * plan.workers, 4 * size)))
    batch = np.zeros((size, *engine.input_shape), dtype=np.uint8)

    def through(opened: Session) -> float:
        begin = time.perf_counter()
        return sum(1 for _ in pipeline.stream(opened, many)) / (time.perf_counter() - begin)

    rates: dict[str, list[float]] = {"decode": [], "model": [], "end_to_end": []}
    through(session)
    for _ in range(ROUNDS):
        rates["decode"].append(through(idle))
        rates["model"].append(rate(lambda: len(engine.run(batch)), 0.5))
        rates["end_to_end"].append(through(session))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    share = medians["end_to_end"] / min(medians["decode"], medians["model"])
    return {**asdict(plan), "pictures": len(many), **medians, "rounds": rates, "share_of_the_smaller": share}


def measure(
    bundle: Bundle, files: Sequence[Path], device: str, sizes: Sequence[int], seconds: float, least: int
) -> dict[str, Any]:
    pictures = usable(bundle, files)
    engines, left_out = opened(bundle, device)
    card = (machine.gpus() or [""])[0].split(",")[0] if device != "cpu" else ""
    counted = {p: operations(bundle.read(choice.artifact.file)) for p, (choice, _) in engines.items()}
    rows = []
    for (precision, size), rates in model_only(engines, pictures.inputs, sizes, seconds).items():
        row: dict[str, Any] = {"precision": precision, "batch_size": size}
        if isinstance(rates, str):
            rows.append({**row, "left_out": rates})
            continue
        median, most = statistics.median(rates), peak(card, precision)
        achieved = median * counted[precision] / 1e12
        rows.append(
            {
                **row,
                "pictures_per_second": median,
                "slowest": min(rates),
                "fastest": max(rates),
                "tera_operations_per_second": achieved,
                "share_of_peak": achieved / most if most else None,
            }
        )
    usual = BATCH_SIZE[device]
    whole = {
        precision: end_to_end(bundle, choice, engine, pictures.files, usual, least)
        for precision, (choice, engine) in engines.items()
    }
    return {
        "kind": "gpu",
        "device": device,
        "card": card or None,
        "machine": fingerprint(),
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.digest},
        "pictures": len(pictures.files),
        "megapixels": pictures.megapixels,
        "operations_per_picture": counted,
        "left_out": left_out,
        "model": rows,
        "end_to_end": whole,
    }


def show(report: dict[str, Any]) -> None:
    print(
        f"{report['card'] or report['device']}, {report['pictures']} pictures of {report['megapixels']:.1f} megapixels"
    )
    for precision, why in report["left_out"].items():
        print(f"{precision}: left out, {why}")
    for row in report["model"]:
        what = f"{row['precision']:>5} batch {row['batch_size']:>4}"
        if "left_out" in row:
            print(f"{what}  {row['left_out']}")
            continue
        share = "" if row["share_of_peak"] is None else f", {row['share_of_peak']:.0%} of the card's peak"
        print(f"{what}  {row['pictures_per_second']:>9.1f}/s, {row['tera_operations_per_second']:.2f} Top/s{share}")
    for precision, row in report["end_to_end"].items():
        print(
            f"{precision:>5} from files  {row['end_to_end']:.1f}/s; decoders alone {row['decode']:.1f}/s, model alone "
            f"{row['model']:.1f}/s: {row['share_of_the_smaller']:.2f} of the smaller"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--device", choices=tuple(ort.PROVIDERS), default="cuda")
    parser.add_argument("--batch-sizes", default="1,8,32,64,128,256")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each shape in each round")
    parser.add_argument("--least", type=int, default=2000, help="pictures of an end-to-end round")
    options = parser.parse_args(arguments)
    sizes = [int(size) for size in options.batch_sizes.split(",")]
    try:
        files = sample_files(options.pictures)
        report = measure(load(options.model), files, options.device, sizes, options.seconds, options.least)
    except EdgecxrError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return error.exit_code
    show(report)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
