"""The models of a repository and their files: the network, bytes to record in one, and the ensemble of the two ends.

    NAME               python: the bytes of a file -> its record, by edgecxr itself
    NAME_ensemble      the same by three models, with the network on Triton's ONNX backend:
    NAME_preprocess      python: bytes -> image, and what is known of the file
    NAME_network         onnxruntime: image -> logits, evidence, ood
    NAME_record          python: logits, ood, and what is known of the file -> record

Each is self-contained, since a server may fetch models one by one. Fields are those of `ModelConfig` in
model_config.proto of triton-inference-server/common.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgecxr
from edgecxr.bundle import Artifact, Bundle, load, network
from edgecxr.bundle.reader import MANIFEST, PRECISIONS
from edgecxr.engines import known_outputs, ort
from edgecxr.engines.select import Choice, choose_artifact
from edgecxr.errors import BundleError, StorageError, UsageError
from edgecxr.pictures.pillow import Image
from edgecxr.scoring import abstention
from edgecxr.scoring.session import BATCH_SIZE
from edgecxr.system import storage
from edgecxr_export.triton import pbtxt
from edgecxr_export.triton.pbtxt import Name

DEVICES = ("cpu", "cuda")
NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")  # a folder's, and a part of Triton's addresses
VERSION = "1"  # of each model; a new export is a new repository
BUNDLE = "bundle.edgecxr"
# Pictures that one call of a model may hold. On a CPU a larger one would only make others wait; a GPU's is `infer`'s.
MAX_BATCH = {"cpu": 8, "cuda": BATCH_SIZE["cuda"]}

Files = dict[str, bytes]


@dataclass(frozen=True)
class Asked:
    """What a repository is to be made of, and for."""

    bundle: Bundle
    artifact: Artifact
    name: str
    device: str

    @property
    def batch(self) -> int:
        return MAX_BATCH[self.device]


def write(
    source: str | os.PathLike[str],
    output: Path,
    *,
    precision: str = "auto",
    device: str = "cpu",
    name: str | None = None,
) -> tuple[str, ...]:
    """Write a model repository of the bundle `source` (a path, `full` or `edge`) and return the names of its models.

    `device` is cpu or cuda, on which the server will run it; `precision` is fp32, fp16, int8, or auto for what `infer`
    takes there. Models are called after the bundle, or `name`.

    The folder `output` is new or empty, and stands there whole afterwards or not at all. Raises UsageError,
    StorageError, UnavailableError where the bundle holds no such ONNX artifact, and BundleError for a damaged bundle.
    """
    if device not in DEVICES:
        raise UsageError(f"a model repository is for one of {', '.join(DEVICES)}, got {device}")
    if os.path.lexists(output) and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"a model repository is written to a folder that is new or empty, got: {output}")
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(f"a model repository holds one network, of {', '.join(PRECISIONS)}, got {precision[:40]!r}")
    storage.check_writable(output)
    bundle = load(source)
    called = bundle.name if name is None else name
    if not NAMES.fullmatch(called):
        raise UsageError(f"a model's name for Triton is of A-Z, a-z, 0-9 and . _ + - only; give --name, got {called!r}")
    asked = Asked(bundle, choose_artifact(bundle, device, precision, ort.NAME), called, device)
    models = _models(asked)
    try:
        with storage.replacing_folder(output, overwrite=False) as partial:
            for model, files in models.items():
                for file, data in files.items():
                    path = partial / model / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    storage.write_new(path, data)
            for folder in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
                storage.sync_folder(folder)
    except OSError as error:
        raise StorageError(f"the model repository can't be written ({error.strerror}): {output}") from None
    return tuple(models)


def _models(asked: Asked) -> dict[str, Files]:
    """The files of each model; every file of the bundle is hashed on the way."""
    bundle, name, batch = asked.bundle, asked.name, asked.batch
    contents = {file: bundle.read(file) for file in bundle.files}
    manifest = storage.json_text(bundle.manifest).encode()
    golden = bundle.golden_inputs()
    code = (resources.files("edgecxr_export.triton") / "model.py").read_bytes()
    inputs, outputs = network.onnx_tensors(contents[asked.artifact.file])
    if len(inputs) != 1 or not known_outputs(list(outputs)):
        raise BundleError(
            f"{asked.artifact.file} must have one input and the outputs logits, evidence and perhaps ood, got "
            f"{', '.join([*inputs, *outputs])[:200]}"
        )
    (image,) = inputs
    film, known, record = _strings("FILE"), _strings("ABOUT"), _strings("RECORD")
    seen: dict[str, str] = {
        output: output.upper() for output in outputs if output != "evidence"
    }  # what a record holds of it
    common = {"max_batch_size": batch, "dynamic_batching": [{}]}

    def python(role: str, given: Sequence[Any], gives: Sequence[Any], **more: str) -> dict[str, Any]:
        said = {"role": role, "bundle_folder": BUNDLE, **_parameters(asked), **more}
        return {
            "backend": "python",
            **common,
            "input": list(given),
            "output": list(gives),
            "instance_group": [{"kind": Name("KIND_CPU"), "count": 1}],
            "parameters": _said(said),
        }

    held = {f"{VERSION}/model.py": code, f"{VERSION}/{BUNDLE}/{MANIFEST}": manifest}
    configured: dict[str, tuple[dict[str, Any], Files]] = {
        name: (
            {
                **python("film", [film], [record], engine="auto"),
                "model_warmup": [_warm_up(i, "FILE", film["data_type"], [1]) for i in range(len(golden))],
            },
            {
                **held,
                **{f"{VERSION}/{BUNDLE}/{file}": data for file, data in contents.items()},
                **{f"warmup/{_golden(i)}": _string(_png(picture)) for i, picture in enumerate(golden)},
            },
        ),
        f"{name}_preprocess": (python("preprocess", [film], [_tensor("IMAGE", *inputs[image]), known]), held),
        f"{name}_network": (
            {
                "backend": "onnxruntime",
                **common,
                "input": [_tensor(image, *inputs[image])],
                "output": [
                    {**_tensor(output, *found), **({"label_filename": "labels.txt"} if output == "logits" else {})}
                    for output, found in outputs.items()
                ],
                "instance_group": [{"kind": Name("KIND_GPU" if asked.device == "cuda" else "KIND_CPU"), "count": 1}],
                "parameters": _said(_parameters(asked)),
                "model_warmup": [
                    _warm_up(i, image, Name(inputs[image][0]), inputs[image][1]) for i in range(len(golden))
                ],
            },
            {
                f"{VERSION}/model.onnx": contents[asked.artifact.file],
                "labels.txt": "".join(f"{label}\n" for label in bundle.labels).encode(),
                **{f"warmup/{_golden(i)}": picture.tobytes() for i, picture in enumerate(golden)},
            },
        ),
        f"{name}_record": (
            python(
                "record",
                [known, *(_tensor(theirs, *outputs[ours]) for ours, theirs in seen.items())],
                [record],
                outputs=" ".join(seen.values()),
            ),
            held,
        ),
        f"{name}_ensemble": (
            {
                "platform": "ensemble",
                "max_batch_size": batch,
                "input": [film],
                "output": [record],
                "parameters": _said(_parameters(asked)),
                "ensemble_scheduling": {
                    "step": [
                        _step(f"{name}_preprocess", {"FILE": "FILE"}, {"IMAGE": "IMAGE", "ABOUT": "ABOUT"}),
                        _step(f"{name}_network", {image: "IMAGE"}, seen),
                        _step(
                            f"{name}_record",
                            {"ABOUT": "ABOUT", **{theirs: theirs for theirs in seen.values()}},
                            {"RECORD": "RECORD"},
                        ),
                    ]
                },
            },
            # Triton looks for a folder of the version, empty for an ensemble; object stores and git drop empty ones.
            {f"{VERSION}/README": b"An ensemble has no file of its own.\n"},
        ),
    }
    return {
        model: {"config.pbtxt": pbtxt.text({"name": model, **configuration}).encode(), **files}
        for model, (configuration, files) in configured.items()
    }


def _parameters(asked: Asked) -> dict[str, str]:
    """What each model says of where it comes from and how its network is to be fed and read."""
    bundle, artifact = asked.bundle, asked.artifact
    rule = abstention.rule(bundle.abstention, Choice(artifact, ort.NAME, asked.device, artifact.precision))
    return {
        "edgecxr": edgecxr.__version__,
        "bundle": f"{bundle.name} {bundle.version}",
        "bundle_sha256": bundle.digest,
        "artifact": artifact.file,
        "artifact_sha256": artifact.sha256,
        "precision": artifact.precision,
        "device": asked.device,
        "temperature": repr(bundle.temperature),
        "abstain_at": "none" if rule.threshold is None else repr(rule.threshold),
        "contract": json.dumps(bundle.preprocessing.to_json()),
    }


def _said(parameters: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"string_value": value}} for key, value in parameters.items()]


def _tensor(name: str, kind: str, dims: Sequence[int]) -> dict[str, Any]:
    """A tensor without its first dimension, which is the batch's."""
    return {"name": name, "data_type": Name(kind), "dims": list(dims)}


def _strings(name: str) -> dict[str, Any]:
    """A file or text a picture. As strings, files of any length are batched together, which arrays of bytes aren't."""
    return _tensor(name, "TYPE_STRING", [1])


def _step(model: str, given: Mapping[str, str], gives: Mapping[str, str]) -> dict[str, Any]:
    maps = (("input_map", given), ("output_map", gives))
    listed = {field: [{"key": key, "value": value} for key, value in pairs.items()] for field, pairs in maps}
    return {"model_name": model, "model_version": -1, **listed}


def _warm_up(golden: int, tensor: str, kind: str, dims: Sequence[int]) -> dict[str, Any]:
    value = {"data_type": kind, "dims": list(dims), "input_data_file": _golden(golden)}
    return {"name": _golden(golden), "batch_size": 1, "inputs": {"key": tensor, "value": value}}


def _golden(position: int) -> str:
    return f"golden-{position + 1}"


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    """A network input (H, W, 1) as a file."""
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0]).save(file, "PNG")
    return file.getvalue()


def _string(data: bytes) -> bytes:
    """A string as Triton has it in a tensor's bytes: its length, 4 bytes, little-endian, then itself."""
    return struct.pack("<I", len(data)) + data
