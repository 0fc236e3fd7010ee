"""Is the input ever the bottleneck of training? The cache and the batcher alone, and a training step fed by them.

    python benchmarks/training_input.py [-o results.json] [--step]

The cache is a memory map of drawn noise, as large as asked for (a real one has the same bytes a picture). Batches are
those of the default recipe: read from the map, augmented, labelled and weighed; `--step` also trains on them, against
the same step on one batch that stays where it is. Rates are medians of rounds in turn, with the slowest and fastest;
`per_cpu_second` counts processor time alone, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import keras
import numpy as np

from edgecxr.engines.select import fingerprint
from edgecxr.lab.train import accelerator as accelerators
from edgecxr.lab.train import model as models
from edgecxr.lab.train.batches import Epoch, Targets, augmented
from edgecxr.lab.train.fit import versions
from edgecxr.lab.train.recipes import recipe
from edgecxr.system.machine import cpus

ROUNDS = 5


def cache(folder: Path, count: int, size: int) -> np.ndarray:
    """A memory map like that of decoded pictures, uint8 (count, size, size)."""
    file = folder / f"{count}x{size}.npy"
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(count, size, size))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (size * 4, size * 4), dtype=np.uint8)
    for index in range(count):
        top, left = rng.integers(0, size * 3, 2)
        array[index] = noise[top : top + size, left : left + size]
    array.flush()
    return np.load(file, mmap_mode="r")


def epoch_of(pictures: np.ndarray, batch_size: int, workers: int, number: int) -> Epoch:
    chosen = recipe("default")
    classes = [index % 3 for index in range(len(pictures))]
    source = augmented(pictures, range(len(pictures)), chosen.augmentation, 0)
    targets = Targets.of(classes, 3, balance=chosen.balance_classes, sources=[""] * len(classes))
    return Epoch(source, targets, batch_size, seed=0, epoch=number, workers=workers)


def batches(epoch: Epoch, workers: int) -> Iterator[Any]:
    """The batches as so many threads make them, as Keras's own queue does."""
    if workers == 1:
        yield from (epoch[index] for index in range(len(epoch)))
        return
    made: Queue[Any] = Queue(maxsize=epoch.max_queue_size)

    def work(first: int) -> None:
        for index in range(first, len(epoch), workers):
            made.put(epoch[index])

    threads = [Thread(target=work, args=(first,), daemon=True) for first in range(workers)]
    for thread in threads:
        thread.start()
    for _ in range(len(epoch)):
        yield made.get()


def rate(run: Callable[[], int]) -> tuple[float, float]:
    """(pictures/s, pictures per second of processor time) of one run."""
    wall, processor = time.perf_counter(), time.process_time()
    count = run()
    return count / (time.perf_counter() - wall), count / (time.process_time() - processor)


def spread(rates: list[tuple[float, float]]) -> dict[str, float]:
    walls = [wall for wall, _ in rates]
    return {
        "pictures_per_second": statistics.median(walls),
        "slowest": min(walls),
        "fastest": max(walls),
        "per_cpu_second": statistics.median(processor for _, processor in rates),
    }


def input_alone(pictures: np.ndarray, batch_size: int) -> list[dict[str, Any]]:
    cases = sorted({1, cpus()})
    found: dict[int, list[tuple[float, float]]] = {workers: [] for workers in cases}
    for number in range(ROUNDS):
        for workers in cases:
            epoch = epoch_of(pictures, batch_size, workers, number)
            found[workers].append(rate(lambda e=epoch, w=workers: sum(len(b[0]) for b in batches(e, w))))
    return [{"what": "input alone", "workers": workers, **spread(rates)} for workers, rates in found.items()]


def with_step(pictures: np.ndarray, batch_size: int, steps: int) -> list[dict[str, Any]]:
    """`fit` on the batcher's batches against `fit` on one batch, in turn."""
    chosen = recipe("default")
    accelerator = accelerators.choose("auto")
    keras.config.set_dtype_policy("mixed_bfloat16" if accelerator.bfloat16 else "float32")
    model = models.build(chosen, 3)
    models.freeze(model, chosen.stages[-1].trainable_from)
    model.compile(
        optimizer=keras.optimizers.AdamW(1e-4, use_ema=True),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    part = pictures[: batch_size * steps]
    one = epoch_of(part, batch_size, 1, 0)[0]
    # On the accelerator once, so that not even the copy is counted.
    resident = tuple(keras.ops.convert_to_tensor(array) for array in one)

    class Resident(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return steps

        def __getitem__(self, index: int) -> Any:
            return resident

    found: dict[str, list[tuple[float, float]]] = {"one resident batch": [], "batcher": []}
    for number in range(ROUNDS + 1):
        for name, rates in found.items():
            data = Resident() if name == "one resident batch" else epoch_of(part, batch_size, cpus(), number)
            measured = rate(lambda d=data: model.fit(d, verbose=0) and steps * batch_size)
            if number:  # the first round compiles
                rates.append(measured)
    rows = [
        {"what": f"training step, {name}", "device": str(accelerator), **spread(rates)} for name, rates in found.items()
    ]
    rows[-1]["share_of_resident"] = rows[-1]["pictures_per_second"] / rows[0]["pictures_per_second"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--size", type=int, default=299, help="px, both sides")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--step", action="store_true", help="train on the batches too (--steps a round)")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pictures = cache(Path(folder), options.pictures, options.size)
        rows = input_alone(pictures, options.batch_size)
        if options.step:
            rows += with_step(pictures, options.batch_size, options.steps)
    report = {
        "what": "input of training",
        "machine": fingerprint(),
        "versions": versions(),
        "pictures": options.pictures,
        "size": options.size,
        "batch_size": options.batch_size,
        "rounds": ROUNDS,
        "results": rows,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
