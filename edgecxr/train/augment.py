"""Augmentation as a pure function of (seed, epoch, index): the same bytes whatever worker makes them, and when."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgecxr.train.recipes import Augmentation

Image8 = npt.NDArray[np.uint8]


def augment(image: Image8, augmentation: Augmentation, key: tuple[int, int, int]) -> Image8:
    """A changed copy of the network input `image`, uint8 (H, W) -> uint8 (H, W).

    `key` is (seed, epoch, index of the picture). Every draw is made whether it is used or not, so that switching one
    change off leaves the others as they were.
    """
    rng = np.random.default_rng(key)
    draw = rng.uniform(-1.0, 1.0, size=8)
    flip, soft = rng.random(2)
    image = _soften(image, 1.0 - soft * (1.0 - augmentation.soften) if augmentation.soften else 1.0)
    zoom_x = 1.0 + augmentation.zoom * draw[0]
    zoom_y = zoom_x if augmentation.zoom_axes == "together" else 1.0 + augmentation.zoom * draw[1]
    image = _affine(
        image,
        rotate=math.radians(augmentation.rotate * draw[2]),
        shear=math.radians(augmentation.shear * draw[3]),
        zoom=(zoom_x, zoom_y),
        shift=(augmentation.shift * draw[4], augmentation.shift * draw[5]),
        flip=augmentation.flip and flip < 0.5,
    )
    return _expose(image, 1.0 + augmentation.contrast * draw[6], 255.0 * augmentation.brightness * draw[7])


def _affine(
    image: Image8,
    *,
    rotate: float,
    shear: float,
    zoom: tuple[float, float],
    shift: tuple[float, float],
    flip: bool,
) -> Image8:
    """Resample about the centre, bilinearly; what comes from outside repeats the edge.

    The matrix takes output to input coordinates and is rotation x shear x zoom on (row, column), as Keras's
    ImageDataGenerator composes them; a zoom factor below 1 therefore enlarges.
    """
    height, width = image.shape
    cos, sin = math.cos(rotate), math.sin(rotate)
    rotation = np.array([[cos, -sin], [sin, cos]])
    shearing = np.array([[1.0, -math.sin(shear)], [0.0, math.cos(shear)]])
    zooming = np.diag([zoom[1], zoom[0]])
    matrix = rotation @ shearing @ zooming
    if flip:
        matrix = matrix @ np.diag([1.0, -1.0])
    if np.array_equal(matrix, np.eye(2)) and shift == (0.0, 0.0):
        return image
    centre = np.array([height / 2, width / 2])
    offset = centre - matrix @ centre + np.array([shift[1] * height, shift[0] * width])
    # Pillow fills from outside with a constant: repeat the edge before. A corner reaches furthest out.
    corners = np.array([[0, 0], [0, width], [height, 0], [height, width]], dtype=float) @ matrix.T + offset
    reach = max(0.0, -corners.min(), (corners - [height, width]).max())
    pad = math.ceil(reach) + 1
    offset = offset + pad
    coefficients = (matrix[1, 1], matrix[1, 0], offset[1], matrix[0, 1], matrix[0, 0], offset[0])
    padded = Image.fromarray(np.pad(image, pad, mode="edge"))
    moved = padded.transform((width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(moved, dtype=np.uint8)


def _soften(image: Image8, share: float) -> Image8:
    """Reduce to `share` of both sides and back."""
    if share >= 1.0:
        return image
    height, width = image.shape
    reduced = (max(1, round(width * share)), max(1, round(height * share)))
    small = Image.fromarray(image).resize(reduced, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)


def _expose(image: Image8, contrast: float, brightness: float) -> Image8:
    """contrast * (x - mean) + mean + brightness, rounded and limited to 0..255."""
    if contrast == 1.0 and brightness == 0.0:
        return image
    mean = float(image.mean())
    table = np.clip(np.rint(contrast * (np.arange(256) - mean) + mean + brightness), 0, 255).astype(np.uint8)
    exposed: Image8 = table[image]
    return exposed
