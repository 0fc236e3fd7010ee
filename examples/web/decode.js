// The bytes of a PNG or JPEG become grey samples, or are rejected in a sentence, with the codes of docs/records.md.
//
// PNG is decoded here: a browser would bring 16 bits to 8, apply profiles and multiply with transparency. JPEG is the
// browser's, without what would have it apply a profile. Colour becomes luma, a palette is looked up, transparency is dropped, an EXIF orientation is applied.

import { bitDepth, luma } from "./preprocess.js";

const MAX_BYTES = 256 << 20;
const MAX_PIXELS = 80_000_000;
const MIN_SIDE = 64; // px; below this a film shows no finding
const MAX_PIXELS_A_BYTE = 1032; // deflate's ratio at most
const DAMAGED = "the picture is damaged or truncated";

export class Rejected extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** {pixels (Uint8Array or Uint16Array), width, height: of the pixels, upright; file: [width, height], bits}. A JPEG may be
 * decoded at the reduced scale that the contract says. */
export async function decode(bytes, contract) {
  if (bytes.length === 0) throw new Rejected("empty", "the file is empty");
  if (bytes.length > MAX_BYTES) throw new Rejected("too_large", `more than 256 MiB: ${bytes.length} bytes`);
  const starts = (...wanted) => wanted.every((byte, place) => bytes[place] === byte);
  if (starts(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a)) return png(bytes);
  if (starts(0xff, 0xd8)) return jpeg(bytes, contract);
  if (String.fromCharCode(...bytes.subarray(128, 132)) === "DICM") {
    throw new Rejected("dicom", "this page doesn't read DICOM; edgecxr does, on a computer of yours");
  }
  throw new Rejected("unsupported_format", "neither a PNG nor a JPEG; this page reads no others");
}

function checkSize(width, height, bytes) {
  if (width * height > MAX_PIXELS) throw new Rejected("too_large", `more than 80 megapixels: ${width} x ${height}`);
  if (Math.min(width, height) < MIN_SIDE) {
    throw new Rejected("too_small", `smaller than ${MIN_SIDE} px: ${width} x ${height}`);
  }
  if (width * height > MAX_PIXELS_A_BYTE * bytes.length) {
    const what = `${width} x ${height} px in ${bytes.length} bytes: more than ${MAX_PIXELS_A_BYTE} a byte`;
    throw new Rejected("implausible", what);
  }
}

// PNG: ISO/IEC 15948

const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by colour type: grey, RGB, palette, and both with transparency
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];
const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

async function png(bytes) {
  const chunks = pngChunks(bytes);
  const header = chunks.IHDR?.[0];
  if (header?.length !== 13 || !chunks.IDAT) throw new Rejected("corrupt", DAMAGED);
  const view = new DataView(header.buffer, header.byteOffset, 13);
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  const [bits, colour, , , interlaced] = header.subarray(8);
  checkSize(width, height, bytes);
  if (chunks.acTL && new DataView(chunks.acTL[0].buffer, chunks.acTL[0].byteOffset).getUint32(0) > 1) {
    throw new Rejected("several_frames", "the file holds more than one picture");
  }
  const channels = CHANNELS[colour];
  if (!channels || ![1, 2, 4, 8, 16].includes(bits) || interlaced > 1) throw new Rejected("corrupt", DAMAGED);
  if (bits === 16 && colour !== 0) throw new Rejected("unsupported_samples", "16-bit samples that aren't plain grey");
  const passes = (interlaced ? ADAM7 : [[0, 0, 1, 1]]).map(([left, top, across, down]) => {
    const size = [Math.ceil((width - left) / across), Math.ceil((height - top) / down)];
    return { left, top, across, down, size, row: Math.ceil((size[0] * channels * bits) / 8) };
  }).filter(({ size }) => size[0] > 0 && size[1] > 0);
  const data = await inflate(chunks.IDAT, passes.reduce((sum, { size, row }) => sum + size[1] * (row + 1), 0));
  const grey = toGrey(bits, colour, chunks.PLTE?.[0]);
  const pixels = bits === 16 ? new Uint16Array(width * height) : new Uint8Array(width * height);
  let start = 0;
  for (const { left, top, across, down, size, row } of passes) {
    unfilter(data, start, row, size[1], Math.max(1, (channels * bits) >> 3));
    for (let y = 0; y < size[1]; y++) {
      const line = data.subarray(start + y * (row + 1) + 1, start + (y + 1) * (row + 1));
      let place = (top + y * down) * width + left;
      for (let x = 0; x < size[0]; x++, place += across) pixels[place] = grey(line, x);
    }
    start += size[1] * (row + 1);
  }
  return { ...upright(pixels, width, height, orientation(chunks.eXIf?.[0])), file: [width, height], bits: bitDepth(pixels) };
}

/** {type: [data, ...]} of the chunks up to the end; each must be as its checksum says. */
function pngChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const chunks = {};
  for (let place = 8; place + 12 <= bytes.length; ) {
    const length = view.getUint32(place);
    const end = place + 8 + length;
    if (end + 4 > bytes.length) throw new Rejected("corrupt", DAMAGED);
    let crc = 0xffffffff;
    for (let k = place + 4; k < end; k++) crc = CRC[(crc ^ bytes[k]) & 255] ^ (crc >>> 8);
    if ((crc ^ 0xffffffff) >>> 0 !== view.getUint32(end)) throw new Rejected("corrupt", DAMAGED);
    const type = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    (chunks[type] ??= []).push(bytes.subarray(place + 8, end));
    if (type === "IEND") break;
    place = end + 4;
  }
  return chunks;
}

/** What the pieces inflate to, which must be `length` bytes; no more is ever kept. */
async function inflate(pieces, length) {
  const out = new Uint8Array(length);
  let filled = 0;
  try {
    const reader = new Blob(pieces).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let piece; filled < length && !(piece = await reader.read()).done; filled += piece.value.length) {
      out.set(piece.value.subarray(0, length - filled), filled);
    }
    await reader.cancel();
  } catch {
    filled = 0; // the browser's own words name no file
  }
  if (filled < length) throw new Rejected("corrupt", DAMAGED);
  return out;
}

/** Undo the filters (9.2) of `rows` rows of `row` bytes each, in place; `unit` bytes are a pixel. */
function unfilter(data, start, row, rows, unit) {
  for (let y = 0; y < rows; y++) {
    const kind = data[start + y * (row + 1)];
    const here = start + y * (row + 1) + 1;
    const above = y ? here - row - 1 : -1;
    if (kind > 4) throw new Rejected("corrupt", DAMAGED);
    if (kind === 0) continue;
    for (let x = 0; x < row; x++) {
      const a = x >= unit ? data[here + x - unit] : 0;
      const b = y ? data[above + x] : 0;
      if (kind === 1) data[here + x] += a;
      else if (kind === 2) data[here + x] += b;
      else if (kind === 3) data[here + x] += (a + b) >> 1;
      else {
        const c = x >= unit && y ? data[above + x - unit] : 0;
        const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
        data[here + x] += pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      }
    }
  }
}

/** (row, x) => the grey level of pixel x; of 16 bits as it is, of less than 8 over the full range. */
function toGrey(bits, colour, palette) {
  const sample = (row, x) => (row[(x * bits) >> 3] >> (8 - bits - ((x * bits) & 7))) & ((1 << bits) - 1);
  if (colour === 3) {
    if (!palette?.length || palette.length % 3) throw new Rejected("corrupt", DAMAGED);
    const greys = Array.from({ length: palette.length / 3 }, (_, n) => luma(...palette.subarray(3 * n, 3 * n + 3)));
    return (row, x) => {
      const level = greys[sample(row, x)];
      if (level === undefined) throw new Rejected("corrupt", DAMAGED);
      return level;
    };
  }
  if (colour === 2) return (row, x) => luma(row[3 * x], row[3 * x + 1], row[3 * x + 2]);
  if (colour === 6) return (row, x) => luma(row[4 * x], row[4 * x + 1], row[4 * x + 2]);
  if (colour === 4) return (row, x) => row[2 * x];
  if (bits === 16) return (row, x) => (row[2 * x] << 8) | row[2 * x + 1];
  if (bits === 8) return (row, x) => row[x];
  return (row, x) => (sample(row, x) * 255) / ((1 << bits) - 1);
}

/** The EXIF orientation, 1 to 8, of a TIFF structure (tag 0x112 of its first directory). */
function orientation(exif) {
  try {
    const view = new DataView(exif.buffer, exif.byteOffset, exif.length);
    const little = view.getUint16(0) === 0x4949;
    const directory = view.getUint32(4, little);
    for (let n = 0; n < view.getUint16(directory, little); n++) {
      const entry = directory + 2 + 12 * n;
      if (view.getUint16(entry, little) === 0x112) return view.getUint16(entry + 8, little);
    }
  } catch {
    // none, or none that can be read: it is upright
  }
  return 1;
}

/** Pixels turned and mirrored as an EXIF orientation has it (CIPA DC-008, table 5). */
function upright(pixels, width, height, kind) {
  if (!(kind >= 2 && kind <= 8)) return { pixels, width, height };
  const swapped = kind >= 5;
  const [toWidth, toHeight] = swapped ? [height, width] : [width, height];
  const out = new pixels.constructor(pixels.length);
  const right = [2, 3, 7, 8].includes(kind); // of the stored columns, the first is shown last
  const down = [3, 4, 6, 7].includes(kind);
  for (let y = 0, place = 0; y < toHeight; y++) {
    for (let x = 0; x < toWidth; x++, place++) {
      const [column, row] = swapped ? [y, x] : [x, y];
      out[place] = pixels[(down ? height - 1 - row : row) * width + (right ? width - 1 - column : column)];
    }
  }
  return { pixels: out, width: toWidth, height: toHeight };
}

// JPEG: ITU-T T.81, annex B

async function jpeg(bytes, contract) {
  const frame = jpegFrame(bytes);
  checkSize(frame.width, frame.height, bytes);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob(frame.pieces, { type: "image/jpeg" }), { colorSpaceConversion: "none" });
  } catch {
    throw new Rejected("corrupt", DAMAGED);
  }
  const { width, height } = bitmap;
  const pixels = new Uint8Array(width * height);
  const strip = Math.min(height, 256); // rows at a time: canvases have limits, and four bytes a pixel
  const context = new OffscreenCanvas(width, strip).getContext("2d", { willReadFrequently: true });
  checkCanvas(context);
  for (let top = 0; top < height; top += strip) {
    const rows = Math.min(strip, height - top);
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, width, rows);
    for (let k = 0; k < rows * width; k++) pixels[top * width + k] = luma(data[4 * k], data[4 * k + 1], data[4 * k + 2]);
  }
  bitmap.close();
  const small = averaged(pixels, width, height, reduction(width, height, contract));
  return { ...upright(small.pixels, small.width, small.height, orientation(frame.exif)), file: [width, height], bits: 8 };
}

/** By how many times the runtime has its decoder reduce a JPEG: to no less than `jpeg_scale` times the input. */
function reduction(width, height, { jpeg_scale: scale, width: toWidth, height: toHeight }) {
  if (!scale) return 1;
  const room = Math.min(Math.floor(width / (scale * toWidth)), Math.floor(height / (scale * toHeight)));
  return [8, 4, 2].find((times) => times <= room) ?? 1;
}

/** Each `times` x `times` pixels as their mean, which is what libjpeg-turbo's reduced transforms come to. */
function averaged(pixels, width, height, times) {
  if (times === 1) return { pixels, width, height };
  const [toWidth, toHeight] = [Math.ceil(width / times), Math.ceil(height / times)];
  const out = new Uint8Array(toWidth * toHeight);
  for (let y = 0, place = 0; y < toHeight; y++) {
    const bottom = Math.min(height, (y + 1) * times);
    for (let x = 0; x < toWidth; x++, place++) {
      const right = Math.min(width, (x + 1) * times);
      let sum = 0;
      for (let row = y * times; row < bottom; row++) {
        for (let k = row * width + x * times; k < row * width + right; k++) sum += pixels[k];
      }
      out[place] = Math.round(sum / ((bottom - y * times) * (right - x * times)));
    }
  }
  return { pixels: out, width: toWidth, height: toHeight };
}

/** Some browsers change what is read from a canvas, against fingerprinting: then an answer would be to another film. */
function checkCanvas(context) {
  const wanted = context.createImageData(64, 64);
  wanted.data.forEach((_, k) => (wanted.data[k] = k % 4 === 3 ? 255 : (k * 37) & 255));
  context.putImageData(wanted, 0, 0);
  const found = context.getImageData(0, 0, 64, 64).data;
  if (found.some((value, k) => value !== wanted.data[k])) {
    throw new Rejected("decoder_failed", "the browser alters what is read from a canvas; save the film as PNG");
  }
}

/**
 * {width, height, exif, pieces: the file without profiles and metadata, by which a browser would change or turn it};
 * a JPEG that isn't read, and one without its end, is rejected.
 */
function jpegFrame(bytes) {
  const pieces = [bytes.subarray(0, 2)];
  let [frame, exif] = [null, undefined];
  for (let place = 2; place + 9 < bytes.length; ) {
    const marker = bytes[place + 1];
    if (bytes[place] !== 0xff || marker === 0xff || marker === 0) {
      place++;
      continue;
    }
    if (marker === 0xda && frame) {
      pieces.push(bytes.subarray(place));
      for (let k = bytes.length - 2; k > place; k--) {
        if (bytes[k] === 0xff && bytes[k + 1] === 0xd9) return { ...frame, exif, pieces };
      }
      break;
    }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      if (marker > 0xc2 || bytes[place + 4] !== 8) {
        throw new Rejected("unsupported_format", "a JPEG of this coding isn't read; save it as PNG");
      }
      const [height, width] = [5, 7].map((k) => (bytes[place + k] << 8) | bytes[place + k + 1]);
      frame = { width, height };
      if (bytes[place + 9] === 4) {
        throw new Rejected("unsupported_samples", "samples of kind CMYK have no defined reading as a film");
      }
    }
    const standalone = marker === 1 || (marker >= 0xd0 && marker <= 0xd9);
    const end = place + 2 + (standalone ? 0 : Math.max(2, (bytes[place + 2] << 8) | bytes[place + 3]));
    if (marker === 0xe1 && String.fromCharCode(...bytes.subarray(place + 4, place + 8)) === "Exif") {
      exif ??= bytes.subarray(place + 10, end);
    }
    // APP0 and APP14 stay: JFIF, and which colours they are.
    if (marker < 0xe1 || (marker > 0xed && marker !== 0xef)) pieces.push(bytes.subarray(place, end));
    place = end;
  }
  throw new Rejected("corrupt", DAMAGED);
}
