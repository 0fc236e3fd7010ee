"""Augmentation as a pure function of (seed, turn, index): the same bytes whatever worker makes them, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from edgecxr.lab.train.recipes import Augmentation

Image8 = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

# The batcher's workers are the parallelism; threads of OpenCV's own would only contend with them.
cv2.setNumThreads(0)


def augment_batch(
    images: Image8, augmentation: Augmentation, seed: int, turns: Iterable[int], indices: Iterable[int]
) -> Image8:
    """Changed copies of `images`, uint8 (B, H, W) -> uint8 (B, H, W), each by its index and its turn.

    A picture's turn is how often it was drawn before.
    """
    changed = np.empty_like(images)
    for place, (turn, index) in enumerate(zip(turns, indices, strict=True)):
        changed[place] = augment(images[place], augmentation, (seed, int(turn), int(index)))
    return changed


def augment(image: Image8, augmentation: Augmentation, key: tuple[int, int, int]) -> Image8:
    """A changed copy of the network input `image`, uint8 (H, W) -> uint8 (H, W).

    `key` is (seed, the picture's turn, its index). Every draw is made whether it is used or not, so that switching one
    change off leaves the others as they were.
    """
    generator = np.random.default_rng(key)
    *symmetric, flip, soft = generator.random(10).tolist()
    draw = [2.0 * value - 1.0 for value in symmetric]
    zoom_x = 1.0 + augmentation.zoom * draw[0]
    zoom_y = zoom_x if augmentation.zoom_axes == "together" else 1.0 + augmentation.zoom * draw[1]
    height, width = image.shape
    matrix = affine_matrix(
        (height, width),
        rotate=math.radians(augmentation.rotate * draw[2]),
        shear=math.radians(augmentation.shear * draw[3]),
        zoom=(zoom_x, zoom_y),
        shift=(augmentation.shift * draw[4], augmentation.shift * draw[5]),
        flip=augmentation.flip and flip < 0.5,
    )
    share = 1.0 - soft * (1.0 - augmentation.soften) if augmentation.soften else 1.0
    changed = _resample(image, matrix, share)
    return _expose(changed, 1.0 + augmentation.contrast * draw[6], 255.0 * augmentation.brightness * draw[7])


def affine_matrix(
    size: tuple[int, int],
    *,
    rotate: float,
    shear: float,
    zoom: tuple[float, float],
    shift: tuple[float, float],
    flip: bool,
) -> Matrix:
    """The (2, 3) matrix that takes (x, y) of the output to (x, y) of the input, in pixels about the centre.

    The linear part is rotation x shear x zoom on (row, column), as Keras's ImageDataGenerator composes them; a zoom
    factor below 1 therefore enlarges. Angles in radians, `shift` in shares of the side.
    """
    height, width = size
    cos, sin = math.cos(rotate), math.sin(rotate)
    lean = cos * -math.sin(shear) - sin * math.cos(shear)  # (row, column) entry of rotation x shear
    upright = sin * -math.sin(shear) + cos * math.cos(shear)  # (column, column)
    mirror = -1.0 if flip else 1.0
    rr, rc = cos * zoom[1], lean * zoom[0] * mirror
    cr, cc = sin * zoom[1], upright * zoom[0] * mirror
    y, x = (height - 1) / 2, (width - 1) / 2
    to_y = y - rr * y - rc * x + shift[1] * height
    to_x = x - cr * y - cc * x + shift[0] * width
    # Plain arithmetic, since this runs once a picture and small numpy arrays cost more than the sums.
    return np.array([[cc, cr, to_x], [rc, rr, to_y]])


def _resample(image: Image8, matrix: Matrix, share: float) -> Image8:
    """Move the picture, bilinearly, by way of one reduced to `share` of both sides; the edge repeats outwards."""
    height, width = image.shape
    if share < 1.0:
        reduced = max(1, round(height * share)), max(1, round(width * share))
        image = cv2.resize(image, (reduced[1], reduced[0]), interpolation=cv2.INTER_LINEAR)
        # Pixel centres: x of the reduced picture is (x + 1/2) * ratio - 1/2.
        for row, ratio in enumerate((reduced[1] / width, reduced[0] / height)):
            matrix[row] *= ratio
            matrix[row, 2] += (ratio - 1) / 2
    if image.shape == (height, width) and np.array_equal(matrix, np.eye(2, 3)):
        return image
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved: Image8 = cv2.warpAffine(image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return moved


def _expose(image: Image8, contrast: float, brightness: float) -> Image8:
    """contrast * (x - mean) + mean + brightness, rounded and limited to 0..255."""
    if contrast == 1.0 and brightness == 0.0:
        return image
    mean = cv2.mean(image)[0]
    # Rounds and limits in one pass.
    exposed: Image8 = cv2.addWeighted(image, contrast, image, 0.0, mean * (1.0 - contrast) + brightness)
    return exposed
