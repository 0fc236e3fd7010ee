"""Weights in another file, which no hash covers: an initializer of the ONNX file names `weights.bin`."""

from pathlib import Path

import numpy as np
import onnx

import tiny
from attacks import forge

REFUSED = "keeps weights in another file"


def model(place: str = "weights.bin") -> bytes:
    network = onnx.load_from_string(tiny.tiny_model())
    bias = next(tensor for tensor in network.graph.initializer if tensor.name == "bias")
    bias.ClearField("raw_data")
    bias.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", "12")):
        entry = bias.external_data.add()
        entry.key, entry.value = key, value
    return bytes(network.SerializeToString())


def make(folder: Path) -> Path:
    weights = np.array([9, 9, 9], dtype=np.float32).tobytes()
    forge.with_file(folder, forge.MODEL, model())
    for place in (folder, folder.parent):  # beside the network, and where the program runs
        (place / "weights.bin").write_bytes(weights)
    return folder
