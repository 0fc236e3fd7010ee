"""A film with the evidence for one class over it, drawn as pixels. Pure; numpy and Pillow only.

    film (H, W), evidence (h, w) -> tinted (H', W', 3) -> side by side with the film and a bar of the scale

Evidence is a share of a logit at each place of a coarse grid, which covers the whole film. It isn't a segmentation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)

SIDE = 768  # px of a film's longer side here; a grid of 10 x 10 shows no more at its own 2,000
GAP = 8  # px between the parts
# Diverging about zero: orange speaks for the class, blue against it. They differ in hue for the colour-blind as well
# (Okabe and Ito's palette, 2008), and neither is a grey of the film.
FOR, AGAINST = (np.array(colour, dtype=np.float32) for colour in ((230, 97, 0), (0, 114, 178)))
OPACITY = 0.6  # of the strongest evidence; the film stays to be seen below it
BAR = 20  # px of the bar's width
GREY = 128  # of a film below the bar


def scale_of(evidence: npt.NDArray[np.float32]) -> float:
    """The strongest evidence for or against, which full colour stands for; of none at all, 1."""
    return float(np.abs(evidence).max()) or 1.0


def reduced(film: Pixels, side: int = SIDE) -> Pixels:
    """A film (H, W), uint8, whose longer side has `side` px at most; antialiased."""
    height, width = film.shape
    factor = min(1.0, side / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(film).resize(size, Image.Resampling.BILINEAR))


def tinted(film: Pixels, evidence: npt.NDArray[np.float32], scale: float) -> Pixels:
    """(H, W, 3): a film (H, W), uint8, under the colours of evidence (h, w), drawn over the whole of it.

    Colour is as opaque as evidence is strong, OPACITY at `scale`, and none at zero.
    """
    size = film.shape[1], film.shape[0]
    strength = np.asarray(Image.fromarray(evidence.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    share = np.clip(strength / scale, -1, 1)[..., None]  # (H, W, 1)
    colour = np.where(share > 0, FOR, AGAINST)
    opacity = np.abs(share) * OPACITY
    blended: Pixels = np.rint(film[..., None] * (1 - opacity) + colour * opacity).astype(np.uint8)
    return blended


def bar(height: int, scale: float) -> Pixels:
    """(height, W, 3): what each colour stands for, from `scale` at the top to the opposite at the bottom."""
    font = ImageFont.load_default(14)
    texts = [f"{value:+.3g}" if value else "0" for value in (scale, 0.0, -scale)]
    texts[0], texts[2] = f"{texts[0]} for", f"{texts[2]} against"
    width = BAR + 6 + max(round(font.getlength(text)) for text in texts) + 2
    strength = np.linspace(scale, -scale, height, dtype=np.float32)[:, None]
    colours = tinted(np.full((height, BAR), GREY, dtype=np.uint8), strength, scale)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(Image.fromarray(colours), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for place, text, anchor in zip((2, height // 2, height - 2), texts, ("la", "lm", "ld"), strict=True):
        draw.text((BAR + 6, place), text, fill=(255, 255, 255), font=font, anchor=anchor)
    return np.asarray(canvas)


def side_by_side(film: Pixels, evidence: npt.NDArray[np.float32], side: int = SIDE) -> Pixels:
    """(H', W', 3): a film (H, W), uint8, black is zero; the same under the evidence (h, w) for one class; the scale."""
    small, scale = reduced(film, side), scale_of(evidence)
    plain = np.repeat(small[..., None], 3, axis=2)
    gap = np.zeros((len(small), GAP, 3), dtype=np.uint8)
    return np.concatenate([plain, gap, tinted(small, evidence, scale), gap, bar(len(small), scale)], axis=1)
