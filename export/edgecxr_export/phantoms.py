"""Draws grey pictures that look like chest films at a glance: they show that the program works, never how good it is.

No patient is behind them, so they may stand in the repository and in every bundle. What a model answers to one says
nothing about the model. `python -m edgecxr_export.phantoms DIR` writes the samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Float = npt.NDArray[np.float64]

SUPERSAMPLE_LIMIT = 1024  # px; larger pictures are drawn at this size and enlarged, as a film is never sharper anyway


def draw(size: tuple[int, int], seed: int, bits: int = 8) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """A phantom (H, W) for `size` = (height, width) in px: uint8 where bits is 8, else uint16 up to 2**bits - 1.

    The same arguments give the same picture. Black is zero; the heart is on the picture's right, as films are shown.
    """
    if bits not in (8, 10, 12, 14, 16):
        raise ValueError(f"bits must be 8, 10, 12, 14 or 16, got {bits}")
    random = np.random.default_rng((seed, 0xC0DE))
    height, width = size
    shrink = min(1.0, SUPERSAMPLE_LIMIT / max(size))
    film = _film(max(8, round(height * shrink)), max(8, round(width * shrink)), random)
    if film.shape != size:
        enlarged = Image.fromarray(film.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        film = np.asarray(enlarged, dtype=np.float64)
    full = (1 << bits) - 1
    grey = np.rint(np.clip(film, 0, 1) * full)
    return grey.astype(np.uint8) if bits == 8 else grey.astype(np.uint16)


def _film(height: int, width: int, random: np.random.Generator) -> Float:
    """Grey (height, width) in 0..1: what the rays pass through, added up, then the film's own curve."""
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    # The patient: how wide, how high, how far off the middle, how deep the breath.
    girth, stature = random.uniform(0.92, 1.06), random.uniform(0.94, 1.05)
    tilt = random.uniform(-0.05, 0.05)
    x = (u - random.uniform(-0.05, 0.05) + tilt * v) / girth
    y = (v - random.uniform(-0.04, 0.04)) / stature
    breath = random.uniform(-0.05, 0.07)
    side = np.where(x < 0, -1.0, 1.0)  # of the picture: -1 is the patient's right
    across = np.abs(x)

    shoulder = 0.62 + 0.34 * _step(y, -0.72, 0.16)
    body = _step(shoulder + 0.05 * np.cos(2.2 * y) - across, 0.0, 0.05)
    neck = _step(0.24 + 0.9 * np.maximum(0, y + 0.93) - across, 0.0, 0.05) * _step(-y, 0.55, 0.1)
    body = np.maximum(body * _step(y + 0.86 - 0.28 * across, 0.0, 0.06), neck)

    lungs = np.zeros_like(x)
    for direction in (-1.0, 1.0):
        base = 0.50 + breath + (0.05 if direction > 0 else 0.0)  # the liver pushes the right dome up
        centre = 0.41 + 0.05 * y
        reach = 0.285 + 0.085 * np.clip(y + 0.4, -0.6, 0.8)
        apex = np.sqrt(np.clip(1 - np.clip((-y - 0.34) / 0.45, 0, 1) ** 2, 0, 1))
        inside = _step(reach * apex - np.abs(direction * x - centre), 0.0, 0.035)
        dome = base - 0.06 + 1.5 * (direction * x - 0.36) ** 2  # highest in its middle, a sharp angle at the ribs
        lungs = np.maximum(lungs, inside * _step(dome - y, 0.0, 0.03) * _step(y + 0.80, 0.0, 0.05))

    heart_size = random.uniform(0.92, 1.12)
    heart = _ellipse(x, y, (0.10, 0.23 + breath), (0.29 * heart_size, 0.27 * heart_size), 0.55, 0.07)
    aorta = _ellipse(x, y, (0.075, -0.30), (0.10, 0.11), 0.0, 0.05)
    mediastinum = _step(0.105 + 0.04 * np.clip(y, 0, 1) - across, 0.0, 0.05)

    spine = _step(0.062 - across, 0.0, 0.02) * (0.8 + 0.2 * np.cos(2 * np.pi * 6.2 * (y + 0.02)))
    trachea = _step(0.030 - np.abs(x + 0.012), 0.0, 0.012) * _step(-0.22 - y, 0.0, 0.06)
    ribs = _ribs(across, y, side, random)
    collar = _stroke(y - (-0.66 + 0.10 * np.cos(3.4 * across) + 0.01 * side), 0.024) * _step(0.74 - across, 0.0, 0.05)
    collar *= _step(across, 0.07, 0.03)
    hila = sum(
        _ellipse(x, y, (direction * 0.165, -0.02), (0.065, 0.12), 0.35 * direction, 0.06) for direction in (-1, 1)
    )
    vessels = _smooth_noise(x.shape, random, width / 55) * lungs

    air = lungs * (1 - 0.93 * np.maximum(heart, np.maximum(mediastinum, 0.8 * aorta)))
    thickness = body * (
        1.55 - 1.28 * air + 0.42 * heart + 0.24 * aorta + 0.42 * spine + 0.34 * mediastinum - 0.30 * trachea
        + (0.16 + 0.12 * air) * ribs + 0.26 * collar + 0.20 * hila * air + 0.045 * vessels
        + 0.30 * _step(y, 0.52 + breath, 0.08)
    )  # fmt: skip
    thickness += 0.05 * body * _smooth_noise(x.shape, random, width / 9)
    film = 1 - np.exp(-random.uniform(0.78, 0.98) * thickness)
    film = _blurred(film, width / 420)
    film += random.normal(0, 0.006, film.shape)
    # The collimator leaves a dark edge.
    edge = random.uniform(0.955, 0.99)
    film *= _step(edge - np.abs(u), 0.0, 0.012) * _step(edge - np.abs(v), 0.0, 0.012)
    film = 0.03 + 0.94 * film
    return _marked(film)


def _ribs(across: Float, y: Float, side: Float, random: np.random.Generator) -> Float:
    """Nine pairs of ribs: behind, falling gently outwards; in front, falling steeply inwards and fainter."""
    ribs = np.zeros_like(across)
    fade = _step(across, 0.075, 0.03) * _step(0.80 - across, 0.0, 0.06)
    for number in range(9):
        start = -0.66 + 0.148 * number + random.normal(0, 0.006)
        arch = start - 0.10 + 0.30 * (across - 0.22) ** 2 / 0.13 + 0.012 * side
        ribs = np.maximum(ribs, _stroke(y - arch, 0.021) * fade)
        front = start + 0.34 - 0.46 * np.sqrt(np.clip(across - 0.18, 0, 1)) + 0.62 * np.clip(across - 0.18, 0, 1) ** 2
        ribs = np.maximum(ribs, 0.5 * _stroke(y - front, 0.017) * fade * _step(across, 0.22, 0.05))
    return ribs


def _step(distance: Float, edge: float, softness: float) -> Float:
    """0 to 1 as `distance` passes `edge`, over about `softness`."""
    return np.asarray(0.5 * (1 + np.tanh((distance - edge) / softness)))


def _stroke(distance: Float, half_width: float) -> Float:
    """A band about distance 0, denser at its rims, as a rib's cortex is."""
    ratio = np.abs(distance) / half_width
    return _step(1.0 - ratio, 0.0, 0.25) * (0.72 + 0.28 * np.clip(ratio, 0, 1) ** 2)


def _ellipse(
    x: Float, y: Float, centre: tuple[float, float], radii: tuple[float, float], angle: float, softness: float
) -> Float:
    dx, dy = x - centre[0], y - centre[1]
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / radii[0]
    athwart = (dy * np.cos(angle) - dx * np.sin(angle)) / radii[1]
    return _step((1 - np.hypot(along, athwart)) * min(radii), 0.0, softness)


def _smooth_noise(shape: tuple[int, ...], random: np.random.Generator, scale: float) -> Float:
    """Noise of standard deviation 1 whose grains are about `scale` px."""
    height, width = shape
    coarse = (max(2, round(height / scale)), max(2, round(width / scale)))
    grains = Image.fromarray(random.normal(0, 1, coarse).astype(np.float32))
    noise = np.asarray(grains.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.asarray((noise - noise.mean()) / max(noise.std(), 1e-9))


def _blurred(film: Float, radius: float) -> Float:
    # Pillow's blurs take bytes only, whose steps would show in a 12-bit film; reducing and enlarging takes floats.
    height, width = film.shape
    factor = max(1.0, radius)
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    reduced = Image.fromarray(film.astype(np.float32)).resize(small, Image.Resampling.BILINEAR)
    return np.asarray(reduced.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)


def _marked(film: Float) -> Float:
    """A side marker, the letter L in lead, as a film has one."""
    height, width = film.shape
    top, left = round(0.10 * height), round(0.88 * width)
    arm, foot, stroke = round(0.055 * height), round(0.034 * width), max(1, round(0.009 * width))
    film[top : top + arm, left : left + stroke] = 0.96
    film[top + arm - stroke : top + arm, left : left + foot] = 0.96
    return film


# What `samples/` holds: between them every way in which a grey film usually arrives.
SAMPLES = (
    ("phantom-1.png", (512, 448), 11, 8),
    ("phantom-2.png", (420, 512), 12, 8),
    ("phantom-3.jpg", (1000, 860), 13, 8),
    ("phantom-4-1.5-megapixels.jpg", (1320, 1136), 14, 8),
    # 12 bits in a container of 16, undeclared, as PNG can't say it: read as 16 bits it would be nearly black.
    ("phantom-5-12-bit.png", (384, 336), 15, 12),
)


def write_samples(folder: Path) -> list[Path]:
    """Draw the samples into `folder`, which is made where it is missing; the paths that were written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, size, seed, bits in SAMPLES:
        image = Image.fromarray(draw(size, seed, bits))
        path = folder / name
        image.save(path, **({"quality": 88} if path.suffix == ".jpg" else {"optimize": True}))
        written.append(path)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edgecxr_export.phantoms DIR")
    for path in write_samples(Path(sys.argv[1])):
        print(path)
