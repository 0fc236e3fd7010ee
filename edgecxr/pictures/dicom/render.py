"""Stored values become grey levels, in DICOM's order: modality LUT, VOI LUT, polarity; then padding is black. Pure.

All of it is one table from a stored value to a grey level (PS3.3, C.11.1, C.11.2 and C.11.6; PS3.4, N.2), so that each
pixel is looked up once. Nothing of the order depends on the picture but the range where no VOI is given.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from edgecxr.errors import PictureRejected
from edgecxr.pictures.dicom import elements as tags
from edgecxr.pictures.dicom.elements import Elements, Value
from edgecxr.pictures.dicom.samples import Stored

Table = npt.NDArray[np.float64]  # by stored value

# Where no VOI is given: from one percentile to the other, and a margin; docs/dicom.md has what each choice gave.
TAIL = 0.005  # of the pixels, at either end
MARGIN = 0.1  # of the range between, at either end, as far as the film has values there
BLOCK = 1 << 20  # pixels counted at a time: numpy makes eight bytes of each


def render(stored: Stored, found: Elements) -> tuple[npt.NDArray[np.uint8], str]:
    """The film's grey levels (H, W), black is zero, and the way that was gone, as it stands in a record."""
    count = 1 << stored.bits
    values = np.arange(count, dtype=np.float64)
    if stored.signed:
        values = np.where(values >= count // 2, values - count, values)
    padding = _padding(found, values, stored.signed)
    output, *way = _modality(found, values, stored.signed)
    shades, how = _voi(found, output) or _range(stored, output, padding)
    grey = np.floor(np.clip(shades, 0, 1) * 255 + 0.5).astype(np.uint8)
    way.append(how)
    if found.text(tags.PHOTOMETRIC) == "MONOCHROME1" or found.text(tags.LUT_SHAPE) == "INVERSE":
        grey = 255 - grey
        way.append("inverted")
    if padding.any():
        grey[padding] = 0
        way.append("padding")
    if not stored.limited:
        way.append("unlimited_decoder")
    return grey[stored.values], "+".join(way)


def _padding(found: Elements, values: Table, signed: bool) -> npt.NDArray[np.bool_]:
    """Which stored values are padding (PS3.3, C.7.5.1.1.2): the stated one, or those between it and the limit."""
    ends = [_integer(found, tag, signed) for tag in (tags.PADDING, tags.PADDING_LIMIT)]
    given = [end for end in ends if end is not None]
    if ends[0] is None:
        return np.zeros(values.shape, dtype=bool)
    return (values >= min(given)) & (values <= max(given))


def _integer(found: Elements, tag: int, signed: bool) -> int | None:
    """A value that is signed where the samples are."""
    value = found.values.get(tag)
    if value is None or len(value.data) < 2:
        return None
    return int(struct.unpack_from(found.order + ("h" if signed else "H"), value.data)[0])


def _modality(found: Elements, values: Table, signed: bool) -> tuple[Table, str] | tuple[Table]:
    sequence = found.values.get(tags.MODALITY_LUT)
    if sequence is not None and sequence.item:
        entries, first, _ = _lut(sequence.item, found.order, signed)
        return _look_up(values, entries, first), "modality_lut"
    slope, intercept = found.number(tags.SLOPE), found.number(tags.INTERCEPT)
    if (slope, intercept) in ((None, None), (1, 0)):
        return (values,)
    return values * (1 if slope is None else slope) + (intercept or 0), "rescale"


def _voi(found: Elements, output: Table) -> tuple[Table, str] | None:
    """Shades of 0 to 1: the first VOI LUT, else the first window; None where there is neither."""
    sequence = found.values.get(tags.VOI_LUT)
    if sequence is not None and sequence.item:
        entries, first, bits = _lut(sequence.item, found.order, bool(output.min() < 0))
        return _look_up(output, entries, first) / ((1 << bits) - 1), "voi_lut"
    center, width = found.number(tags.WINDOW_CENTER), found.number(tags.WINDOW_WIDTH)
    function = found.text(tags.VOI_FUNCTION) or "LINEAR"
    if center is None or width is None:
        return None
    if width < 1 if function == "LINEAR" else width <= 0:
        raise PictureRejected("corrupt", "the DICOM file's window has no width")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (output - center) / width, -700, 700))), "window_sigmoid"
    if function == "LINEAR_EXACT":
        return (output - center) / width + 0.5, "window_linear_exact"
    if function != "LINEAR":
        raise PictureRejected("unsupported_samples", "a VOI LUT function that isn't known")
    # PS3.3, C.11.2.1.2.1; a window of width 1 is a threshold.
    distance = output - (center - 0.5)
    return (distance / (width - 1) + 0.5 if width > 1 else np.where(distance > 0, 1.0, 0.0)), "window_linear"


def _range(stored: Stored, output: Table, padding: npt.NDArray[np.bool_]) -> tuple[Table, str]:
    """Shades where no VOI is given: of 8 bits the full range, of more one about the film's own values, without padding.

    Eight bits are what a screen shows, and such files are pictures already; a detector's values fill a part of more.
    Their extremes alone would let a dead pixel, or a marker of lead, make all the rest grey.
    """
    if stored.bits == 8:
        low, high = output.min(), output.max()
        return (output - low) / max(high - low, 1e-9), "full_range"
    counts = np.zeros(output.shape, dtype=np.int64)
    flat = stored.values.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        counts += np.bincount(flat[start : start + BLOCK], minlength=counts.size)
    counts[padding] = 0
    if not counts.any():
        raise PictureRejected("blank", "the picture is blank")
    order = np.argsort(output, kind="stable")
    so_far = np.cumsum(counts[order])
    ends = np.searchsorted(so_far, so_far[-1] * np.array([TAIL, 1 - TAIL]))
    low, high = output[order[ends]]
    margin, own = MARGIN * (high - low), output[counts > 0]
    low, high = max(low - margin, own.min()), min(high + margin, own.max())
    return (output - low) / max(high - low, 1e-9), "percentiles"


def _lut(item: Mapping[int, Value], order: str, signed: bool) -> tuple[Table, int, int]:
    """(entries, the value that the first of them stands for, bits of an entry) of a LUT's item."""
    descriptor, data = item.get(tags.LUT_DESCRIPTOR), item.get(tags.LUT_DATA)
    if descriptor is None or data is None or len(descriptor.data) < 6:
        raise _broken()
    count, first, bits = struct.unpack_from(f"{order}3H", descriptor.data)
    count = count or 1 << 16  # PS3.3, C.11.1.1
    if (descriptor.vr == b"SS" or (not descriptor.vr and signed)) and first > 0x7FFF:
        first -= 1 << 16
    if len(data.data) >= 2 * count:
        entries = np.frombuffer(data.data, f"{order}u2", count)
    elif bits == 8 and len(data.data) >= count:
        entries = np.frombuffer(data.data, np.uint8, count)
    else:
        raise _broken()
    if not 8 <= bits <= 16 or int(entries.max()) >> bits:
        raise _broken()
    return entries.astype(np.float64), first, bits


def _look_up(values: Table, entries: Table, first: int) -> Table:
    """Values below the first that a LUT maps are its first entry, those above the last its last."""
    places = np.clip(np.floor(values + 0.5) - first, 0, len(entries) - 1)
    shades: Table = entries[places.astype(np.int64)]
    return shades


def _broken() -> PictureRejected:
    return PictureRejected("corrupt", "the DICOM file holds a look-up table that contradicts itself")
