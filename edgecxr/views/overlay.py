"""A film with the evidence for one class over it, drawn as pixels. Pure; numpy and Pillow only.

    film (H, W), evidence (h, w) -> tinted, with contour lines (H', W', 3) -> side by side with the film and a bar
    of the scale -> a sheet with words

Evidence is a share of a logit at each place of a coarse grid, which covers the whole film. It isn't a segmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
# Lines where evidence has these shares of the strongest: solid ones for the class, dashed ones against it. On a grey
# printer both colours are one grey, and the lines are what is left. White with a black edge shows on any grey.
LEVELS = (1 / 3, 2 / 3)
DASH = 6  # widths of a line
BAR = 20  # px of the bar's width
GREY = 128  # of a film below the bar
SHEET = 1024  # px of a film's longer side on a sheet
NARROWEST = 720  # px of a sheet, so that words have room beside a small film
TEXT, HEADING = 15, 1.6  # px of the smallest letters; times the others
NOTE = (
    "Right: each location's share of the class's logit (class activation map). Orange and solid lines speak for the "
    "class, blue and dashed lines against it. It isn't a segmentation. For research use; not a medical device."
)


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

    Colour is as opaque as evidence is strong, OPACITY at `scale`, and none at zero. Lines at LEVELS of `scale`.
    """
    size = film.shape[1], film.shape[0]
    strength = np.asarray(Image.fromarray(evidence.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    share = np.clip(strength / scale, -1, 1)[..., None]  # (H, W, 1)
    colour = np.where(share > 0, FOR, AGAINST)
    opacity = np.abs(share) * OPACITY
    blended: Pixels = np.rint(film[..., None] * (1 - opacity) + colour * opacity).astype(np.uint8)
    _draw_contours(blended, share[..., 0])
    return blended


def _draw_contours(pixels: Pixels, share: npt.NDArray[np.floating]) -> None:
    """Draw lines into `pixels` (H, W, 3) where `share` (H, W), -1 to 1, passes one of LEVELS, for or against."""
    width = max(1, round(max(share.shape) / 512))  # px
    diagonal = np.add.outer(np.arange(share.shape[0]), np.arange(share.shape[1]))  # (H, W)
    dashes = diagonal // (DASH * width) % 2 == 0
    line = np.zeros(share.shape, dtype=bool)
    for sign in (1, -1):
        for level in LEVELS:
            inside = share * sign >= level
            border = np.zeros_like(inside)
            border[:, 1:] |= inside[:, 1:] != inside[:, :-1]
            border[1:] |= inside[1:] != inside[:-1]
            line |= border if sign > 0 else border & dashes
    white = _thicker(line, width - 1)
    pixels[_thicker(white, width)] = 0
    pixels[white] = 255


def _thicker(mask: npt.NDArray[np.bool_], times: int) -> npt.NDArray[np.bool_]:
    """(H, W): what is within `times` steps, up, down or aside, of what is true."""
    grown = mask
    for _ in range(times):
        mask, grown = grown, grown.copy()
        grown[1:] |= mask[:-1]
        grown[:-1] |= mask[1:]
        grown[:, 1:] |= mask[:, :-1]
        grown[:, :-1] |= mask[:, 1:]
    return grown


def bar(height: int, scale: float) -> Pixels:
    """(height, W, 3): what each colour stands for, from `scale` at the top to the opposite at the bottom."""
    font = ImageFont.load_default(max(14, height // 50))
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


def sheet(
    film: Pixels, evidence: npt.NDArray[np.float32], heading: str, lines: Sequence[str] = (), side: int = SHEET
) -> Pixels:
    """(H', W', 3): `side_by_side` of a film (H, W), uint8, and the evidence (h, w) for one class, under a heading and
    lines of text, and over NOTE."""
    pictures = side_by_side(film, evidence, side)
    width = max(pictures.shape[1], NARROWEST)
    padded = np.zeros((len(pictures), width, 3), dtype=np.uint8)
    padded[:, : pictures.shape[1]] = pictures
    text = max(TEXT, width // 90)  # px; a sheet is seen as a whole, however many it has
    above = _words([(heading, round(HEADING * text)), *((line, text) for line in lines)], width)
    return np.concatenate([above, padded, _words([(NOTE, text)], width)])


def _words(texts: Sequence[tuple[str, int]], width: int) -> Pixels:
    """(H, width, 3): each text in letters of its size, white on black, in as many lines as it needs."""
    placed: list[tuple[int, str, ImageFont.FreeTypeFont | ImageFont.ImageFont]] = []
    y = GAP
    for text, size in texts:
        font = ImageFont.load_default(size)
        for line in _wrapped(text, font, width - 2 * GAP):
            placed.append((y, line, font))
            y += round(1.35 * size)
    canvas = Image.new("RGB", (width, y + GAP))
    draw = ImageDraw.Draw(canvas)
    for top, line, font in placed:
        draw.text((GAP, top), line, fill=(255, 255, 255), font=font)
    return np.asarray(canvas)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> Iterator[str]:
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    yield line
