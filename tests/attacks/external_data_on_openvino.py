"""The same on OpenVINO, which reads the other file from the working directory even for a network from memory."""

from pathlib import Path

from attacks import external_data

REFUSED = external_data.REFUSED
OPTIONS = ["--engine", "openvino"]


def make(folder: Path) -> Path:
    return external_data.make(folder)
