// A film, and the same with the evidence for one class over it, as edgecxr/views/overlay.py draws it. Pure pixels.
//
// Evidence is a share of a logit at each place of a coarse grid, which covers the whole film. It isn't a segmentation.

import { resize } from "./preprocess.js";

const SIDE = 768; // px of a film's longer side here
const [FOR, AGAINST] = [[230, 97, 0], [0, 114, 178]]; // Okabe and Ito's: they differ for the colour-blind as well
const OPACITY = 0.6; // of the strongest evidence
const LEVELS = [1 / 3, 2 / 3]; // of the strongest: where lines lie, solid ones for the class, dashed ones against it
const DASH = 6; // widths of a line

/** A film (uint8) with SIDE px at most. */
export function reduced(film, width, height) {
  const factor = Math.min(1, SIDE / Math.max(width, height));
  const [toWidth, toHeight] = [width, height].map((side) => Math.max(1, Math.round(side * factor)));
  return { pixels: resize(film, width, height, toWidth, toHeight), width: toWidth, height: toHeight };
}

/** RGBA of a grey film. */
export function plain({ pixels, width, height }) {
  const rgba = new Uint8ClampedArray(4 * width * height);
  pixels.forEach((grey, k) => rgba.set([grey, grey, grey, 255], 4 * k));
  return rgba;
}

/** RGBA of a film under the colours of evidence (Float32Array, columns x rows), and lines where it passes LEVELS. */
export function tinted({ pixels, width, height }, evidence, columns, rows) {
  const strongest = scaleOf(evidence);
  const share = resize(evidence, columns, rows, width, height).map((value) => value / strongest);
  const rgba = new Uint8ClampedArray(4 * width * height);
  const line = lines(share, width, height);
  for (let k = 0; k < share.length; k++) {
    const opacity = Math.min(1, Math.abs(share[k])) * OPACITY;
    const colour = share[k] > 0 ? FOR : AGAINST;
    for (let c = 0; c < 3; c++) {
      rgba[4 * k + c] = line[k] ? (line[k] === 2 ? 255 : 0) : pixels[k] * (1 - opacity) + colour[c] * opacity;
    }
    rgba[4 * k + 3] = 255;
  }
  return rgba;
}

/** The strongest evidence for or against, which full colour stands for; of none at all, 1. */
export const scaleOf = (evidence) => evidence.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;

/** Where the evidence for the class is strongest, in words: "upper left", as the picture is seen; "centre". */
export function strongestPlace(evidence, columns, rows) {
  const place = evidence.indexOf(Math.max(...evidence));
  const third = (at, count) => Math.min(2, Math.floor((3 * (at + 0.5)) / count));
  const words = [["upper", "middle", "lower"][third(Math.floor(place / columns), rows)]];
  words.push(["left", "centre", "right"][third(place % columns, columns)]);
  return words.join(" ").replace("middle centre", "centre");
}

/** For each pixel 2 on a line, 1 at its black edge, which shows it on white, and else 0. */
function lines(share, width, height) {
  const thick = Math.max(1, Math.round(Math.max(width, height) / 512));
  const out = new Uint8Array(width * height);
  const mark = (x, y, value, reach) => {
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = Math.abs(dy) - reach; dx <= reach - Math.abs(dy); dx++) {
        const [column, row] = [x + dx, y + dy];
        if (column < 0 || row < 0 || column >= width || row >= height) continue;
        out[row * width + column] = Math.max(out[row * width + column], value);
      }
    }
  };
  for (const sign of [1, -1]) {
    for (const level of LEVELS) {
      const inside = (k) => share[k] * sign >= level;
      for (let y = 0, k = 0; y < height; y++) {
        for (let x = 0; x < width; x++, k++) {
          if (sign < 0 && Math.floor((x + y) / (DASH * thick)) % 2) continue;
          if ((x && inside(k) !== inside(k - 1)) || (y && inside(k) !== inside(k - width))) {
            mark(x, y, 2, thick - 1);
            mark(x, y, 1, 2 * thick - 1);
          }
        }
      }
    }
  }
  return out;
}
