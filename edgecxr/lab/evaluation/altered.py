"""Films altered until they are no upright frontal films any more: what abstention learns from; pure.

A clinic's folder holds films on their side, negatives, crops, photographs of a light box. They are made from the
network inputs of films that are learnt from, so that nobody has to collect them, and each way can be left out of a
fit to see what it is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

Image8 = npt.NDArray[np.uint8]  # (H, W)
Floats = npt.NDArray[np.float64]
Generator = np.random.Generator


def alter(image: Image8, way: str, seed: int) -> Image8:
    """`image`, uint8 (H, W), altered the `way` (of WAYS); the same bytes for the same seed. Returns uint8 (H, W)."""
    return np.ascontiguousarray(WAYS[way](image, np.random.default_rng(seed)))


def _rotated(image: Image8, draw: Generator) -> Image8:
    """By a quarter turn either way, or by half a turn."""
    return _resized(np.rot90(image, int(draw.integers(1, 4))), image.shape)


def _inverted(image: Image8, draw: Generator) -> Image8:
    """The negative, as a TIFF or a screen shows it that was read the wrong way round."""
    return (255 - image).astype(np.uint8)


def _cropped(image: Image8, draw: Generator) -> Image8:
    """A third to six tenths of either side, enlarged."""
    height, width = image.shape
    tall, wide = (max(2, int(side * draw.uniform(0.3, 0.6))) for side in (height, width))
    top, left = (int(draw.uniform(0, whole - part)) for whole, part in ((height, tall), (width, wide)))
    return _resized(image[top : top + tall, left : left + wide], image.shape)


def _posterised(image: Image8, draw: Generator) -> Image8:
    """Two to five greys: a fax, a drawing, a slide."""
    steps = int(draw.integers(1, 5))
    return np.rint(np.rint(image / 255 * steps) * (255 / steps)).astype(np.uint8)


def _photographed(image: Image8, draw: Generator) -> Image8:
    """A film on a light box or screen, photographed: askew, before a wall, in uneven light, with a reflection."""
    height, width = image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    share = draw.uniform(0.03, 0.2, 8).reshape(4, 2) * (width, height)
    inner = corners + np.where(corners > 0, -share, share)  # where the film's corners come to lie
    askew = Image.fromarray(image).transform(
        (width, height), Image.Transform.PERSPECTIVE, _perspective(inner, corners), Image.Resampling.BILINEAR
    )
    inside = Image.fromarray(np.full_like(image, 255)).transform(
        (width, height), Image.Transform.PERSPECTIVE, _perspective(inner, corners), Image.Resampling.BILINEAR
    )
    share_inside = np.asarray(inside, dtype=np.float64) / 255
    wall = np.full(image.shape, draw.uniform(0, 230)) + _slope(image.shape, draw) * draw.uniform(0, 40)
    contrast, haze = draw.uniform(0.5, 1.0), draw.uniform(0, 50)
    film = np.asarray(askew, dtype=np.float64) * contrast + haze
    lit = (share_inside * film + (1 - share_inside) * wall) * (1 + draw.uniform(0, 0.35) * _slope(image.shape, draw))
    shine = draw.uniform(0, 140) * _spot(image.shape, draw, 0.05, 0.25)
    return _levels(lit + shine + draw.normal(0, draw.uniform(0, 6), image.shape))


def _collimated(image: Image8, draw: Generator) -> Image8:
    """Underexposed, and black outside of a field that shows a part of the chest."""
    height, width = image.shape
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    tall, wide = (draw.uniform(0.4, 0.8) * side for side in (height, width))
    top, left = (draw.uniform(0, whole - part) for whole, part in ((height, tall), (width, wide)))
    field = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
    return _levels(image * draw.uniform(0.15, 0.6) * field)


WAYS: Mapping[str, Callable[[Image8, Generator], Image8]] = {
    "rotated": _rotated,
    "inverted": _inverted,
    "cropped": _cropped,
    "posterised": _posterised,
    "photographed": _photographed,
    "collimated": _collimated,
}


def _resized(image: Image8, shape: tuple[int, ...]) -> Image8:
    height, width = shape
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _levels(values: Floats) -> Image8:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _slope(shape: tuple[int, ...], draw: Generator) -> Floats:
    """A plane from -1 to 1 across the picture (H, W), falling in a random direction."""
    angle = draw.uniform(0, 2 * np.pi)
    down, right = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]
    plane: Floats = (np.sin(angle) * down + np.cos(angle) * right) / (abs(np.sin(angle)) + abs(np.cos(angle)))
    return plane


def _spot(shape: tuple[int, ...], draw: Generator, least: float, most: float) -> Floats:
    """A round spot of 1 that fades as a Gaussian, its width `least` to `most` of the picture (H, W)."""
    height, width = shape
    row, column, reach = draw.uniform(0, height), draw.uniform(0, width), draw.uniform(least, most) * max(shape)
    distance = (np.arange(height)[:, None] - row) ** 2 + (np.arange(width)[None, :] - column) ** 2
    spot: Floats = np.exp(-distance / (2 * reach**2))
    return spot


def _perspective(targets: Floats, sources: Floats) -> tuple[float, ...]:
    """Pillow's eight coefficients, which lead from each of four `targets` (x, y) to its source.

    x' = (a x + b y + c) / (g x + h y + 1), y' = (d x + e y + f) / (g x + h y + 1), for four pairs of points.
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(targets.tolist(), sources.tolist(), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return tuple(np.linalg.solve(np.array(rows), np.array(values)).tolist())
