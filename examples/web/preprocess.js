// From a grey picture to the network's input, to the grey level as edgecxr/pictures/preprocess.py has it. Pure.

// Every field of a contract but these four names the one behaviour there is; another one is refused, not misread.
const VARIES = ["height", "width", "source_size", "jpeg_scale"];
const FIXED = {
  geometry: "stretch", filter: "bilinear-antialiased", grey: "bt601", bit_depth: "declared-or-observed",
  polarity: "black-is-zero", orientation: "exif",
};
const DICOM = {
  dicom_order: "modality-voi-polarity", dicom_voi: "first-lut-or-first-window",
  dicom_no_voi: "8-bit-full-range-or-percentiles-0.5-and-a-tenth", dicom_polarity: "once", dicom_padding: "black",
};
const BIT_DEPTHS = [8, 10, 12, 14, 16]; // to which detectors digitise; a 16-bit container says nothing about which

/** Throw unless this is a contract that is carried out here to the letter. */
export function checkContract(contract) {
  const fixed = { ...FIXED, ...(contract.version === 2 ? DICOM : {}) };
  const known = ["version", ...VARIES, ...Object.keys(fixed)];
  const odd = Object.keys(contract).filter((name) => !known.includes(name));
  odd.push(...known.filter((name) => !(name in contract)));
  const side = (value) => Number.isInteger(value) && value >= 32 && value <= 4096;
  for (const [name, value] of Object.entries(fixed)) if (contract[name] !== value) odd.push(name);
  if (contract.version !== 1 && contract.version !== 2) odd.push("version");
  if (!side(contract.height)) odd.push("height");
  if (!side(contract.width)) odd.push("width");
  if (contract.source_size !== null && !side(contract.source_size)) odd.push("source_size");
  if (odd.length) throw new Error(`The page doesn't know this preprocessing contract: ${[...new Set(odd)].join(", ")}.`);
}

/** Bits per sample of grey pixels: 8, or the smallest usual depth that holds them. */
export function bitDepth(pixels) {
  if (pixels instanceof Uint8Array) return 8;
  let peak = 0;
  for (const value of pixels) if (value > peak) peak = value;
  return BIT_DEPTHS.find((bits) => peak < 1 << bits);
}

/** Grey pixels of `bits` per sample as 0..255: round(x * 255 / (2**bits - 1)), never clipped. */
export function toUint8(pixels, bits) {
  if (pixels instanceof Uint8Array) return pixels;
  const full = (1 << bits) - 1;
  const table = new Uint8Array(full + 1);
  for (let x = 0; x <= full; x++) table[x] = Math.floor((x * 255 + Math.floor(full / 2)) / full);
  return Uint8Array.from(pixels, (x) => table[x]);
}

/** Luma of ITU-R BT.601 in 16 bits of fraction, as Pillow's "L" rounds it. */
export const luma = (red, green, blue) => (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;

/** The network's input: grey uint8 pixels, width x height, to contract.width x contract.height. */
export function preprocess(pixels, width, height, contract) {
  if (contract.source_size !== null) {
    const [across, down] = [Math.min(width, contract.source_size), Math.min(height, contract.source_size)];
    [pixels, width, height] = [resize(pixels, width, height, across, down), across, down];
  }
  return resize(pixels, width, height, contract.width, contract.height);
}

/** Standard deviation of an image in grey levels. */
export function contrast(image) {
  let [sum, squares] = [0, 0];
  for (const value of image) [sum, squares] = [sum + value, squares + value * value];
  return Math.sqrt(Math.max(0, squares / image.length - (sum / image.length) ** 2));
}

/**
 * Pixels (Uint8Array or Float32Array) brought to another size as the BILINEAR of Pillow 13 does: a triangle filter whose
 * support grows when reducing, one direction after the other. Of uint8, weights have 22 bits of fraction, and what lies
 * between both is rounded to grey levels: which comes first is seen in the result. It is across, unless the height
 * shrinks by more than twice as many px as the width (measured on 13.0.0; before 13, always across).
 */
export function resize(pixels, width, height, toWidth, toHeight) {
  const across = (from, rows) => (width === toWidth ? from : pass(from, rows, width, toWidth, width, 1, toWidth, 1));
  const down = (from, columns) => (height === toHeight ? from : pass(from, columns, height, toHeight, 1, columns, 1, columns));
  const tall = height > toHeight && height - toHeight > 2 * (width - toWidth);
  return tall ? across(down(pixels, width), toHeight) : down(across(pixels, height), toWidth);
}

const FRACTION = 22; // bits; 32 less 8 of the sample and 2 to spare

/** One of the two: `lines` lines of `from` samples to `to`; how far apart lines and samples lie, before and after. */
function pass(pixels, lines, from, to, line, step, toLine, toStep) {
  const integer = pixels instanceof Uint8Array;
  const out = new pixels.constructor(lines * to);
  const { starts, counts, weights, room } = triangle(from, to, integer);
  for (let target = 0; target < to; target++) {
    const first = starts[target] * step;
    const weight = target * room;
    const count = counts[target];
    for (let number = 0; number < lines; number++) {
      let place = number * line + first;
      let sum = integer ? 1 << (FRACTION - 1) : 0;
      for (let k = 0; k < count; k++, place += step) sum += pixels[place] * weights[weight + k];
      out[number * toLine + target * toStep] = integer ? sum >> FRACTION : sum;
    }
  }
  return out;
}

/** For each target sample the first source sample, how many there are, and their weights. */
function triangle(from, to, integer) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  const room = Math.ceil(support) * 2 + 1;
  const [starts, counts] = [new Int32Array(to), new Int32Array(to)];
  const weights = integer ? new Int32Array(to * room) : new Float64Array(to * room);
  for (let target = 0; target < to; target++) {
    const centre = (target + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(from, Math.trunc(centre + support + 0.5)) - start;
    const raw = Array.from({ length: count }, (_, k) =>
      Math.max(0, 1 - Math.abs((k + start - centre + 0.5) * (1 / support))));
    const sum = raw.reduce((a, b) => a + b, 0);
    starts[target] = start;
    counts[target] = count;
    raw.forEach((value, k) => {
      const share = sum === 0 ? value : value / sum;
      weights[target * room + k] = integer ? Math.trunc(0.5 + share * (1 << FRACTION)) : share;
    });
  }
  return { starts, counts, weights, room };
}
