"""What the arithmetic runs on: chosen by name, never by accident."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import keras
import pytest

from edgecxr.errors import UnavailableError
from edgecxr.lab.train import accelerator
from edgecxr.lab.train.accelerator import Accelerator, choose


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with so many devices of each kind, seen through a backend."""

    def of(backend: str, cpu: int = 1, gpu: int = 0) -> None:
        counts = {"cpu": cpu, "gpu": gpu}

        def devices(kind: str) -> list[str]:
            if not counts[kind] and backend == "jax":
                raise RuntimeError(f"Unknown backend {kind}")  # as JAX does
            return [f"{kind}:{number}" for number in range(counts[kind])]

        monkeypatch.setattr(keras.backend, "backend", lambda: backend)
        monkeypatch.setattr(keras.distribution, "list_devices", devices)

    return of


def test_auto_takes_a_gpu_where_there_is_one(machine: Callable[..., None]) -> None:
    machine("jax", gpu=1)
    assert choose() == Accelerator("jax", "gpu", ("gpu:0",))
    assert choose("gpu") == choose()
    assert choose("cpu") == Accelerator("jax", "cpu", ("cpu:0",))
    machine("jax")
    assert choose() == Accelerator("jax", "cpu", ("cpu:0",))


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_a_gpu_that_is_not_there_is_one_sentence(machine: Callable[..., None], backend: str) -> None:
    machine(backend)
    with pytest.raises(UnavailableError, match=rf"--device gpu .* backend {backend} sees none; .*edgecxr\[train-gpu\]"):
        choose("gpu")


@pytest.mark.parametrize(
    ("gpus", "batch_size", "used"),
    [(2, 16, 2), (3, 16, 2), (8, 16, 8), (3, 24, 2), (3, 9, 1), (64, 512, 32)],  # predictions come in batches of 32
)
def test_as_many_devices_share_a_batch_as_divide_it(
    machine: Callable[..., None], gpus: int, batch_size: int, used: int
) -> None:
    machine("jax", gpu=gpus)
    assert len(choose("gpu", batch_size).names) == used


def test_other_backends_use_one_device(machine: Callable[..., None]) -> None:
    machine("tensorflow", gpu=4)
    assert choose().names == ("gpu:0",)


def test_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    assert not Accelerator("jax", "cpu", ("cpu:0",)).bfloat16
    monkeypatch.setattr(accelerator, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert Accelerator("jax", "cpu", ("cpu:0",)).bfloat16


@pytest.mark.parametrize(
    ("capabilities", "has"),
    [(("9.0",), True), (("8.0",), True), (("7.5",), False), (("9.0", "7.0"), False), (("gfx90a",), False)],
)
def test_bfloat16_on_gpus_whose_compute_capability_has_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: tuple[str, ...], has: bool
) -> None:
    monkeypatch.setattr(accelerator, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    gpus = [SimpleNamespace(compute_capability=c) for c in capabilities]
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(devices=lambda kind: {"gpu": gpus}[kind]))
    names = tuple(f"gpu:{number}" for number in range(len(gpus)))
    assert Accelerator("jax", "gpu", names).bfloat16 is has


@pytest.mark.parametrize(
    ("details", "has"),
    [({"compute_capability": (8, 6)}, True), ({"compute_capability": (7, 5)}, False), ({"device_name": "?"}, False)],
)
def test_bfloat16_on_gpus_that_tensorflow_sees(
    monkeypatch: pytest.MonkeyPatch, details: dict[str, object], has: bool
) -> None:
    config = SimpleNamespace(
        list_physical_devices=lambda kind: {"GPU": ["first"]}[kind],
        experimental=SimpleNamespace(get_device_details=lambda device: {"first": details}[device]),
    )
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    assert Accelerator("tensorflow", "gpu", ("gpu:0",)).bfloat16 is has


def test_it_says_what_it_is() -> None:
    assert str(Accelerator("jax", "gpu", ("gpu:0",))) == "gpu (jax)"
    assert str(Accelerator("jax", "gpu", ("gpu:0", "gpu:1"))) == "2 x gpu (jax)"


@pytest.mark.lab
def test_the_command_line_fails_in_one_sentence_before_anything_is_written(
    edgecxr: Callable[..., subprocess.CompletedProcess[str]], picture: Callable[..., Path], tmp_path: Path
) -> None:
    if keras.distribution.list_devices("gpu"):
        pytest.skip("there is a GPU")
    for number in range(10):
        picture(f"films/{'ab'[number % 2]}/{number}.png", seed=number)
    call = ("train", tmp_path / "films", "-o", tmp_path / "run", "--cache", tmp_path / "cache")
    result = edgecxr(*call, "--backbone-weights", "none", "--device", "gpu", timeout=600)
    assert result.returncode == 4
    assert result.stderr.splitlines()[-1].startswith("edgecxr: --device gpu was asked for")
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()
