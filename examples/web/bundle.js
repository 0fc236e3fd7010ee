// A bundle beside the page, checked as it is fetched: docs/bundle.md says what stands in it, and what is refused.

import { checkContract } from "./preprocess.js";

const SCHEMA = 1;
const PLAIN = /^[\w][\w.-]*$/; // a file's name, which leads nowhere else
// Where a bundle has no answers of this very engine, another one's are the nearest (edgecxr/device/golden.py).
const WIDER_TOLERANCES = { fp32: 0.02, int8: 0.5 };

/** JSON with sorted keys, without spaces, in ASCII; numbers as they stood where `text` of JSON.parse kept them. */
export function ascii(value, sort = false) {
  const written = (one) => {
    if (one === null || typeof one !== "object" || JSON.isRawJSON(one)) return JSON.stringify(one);
    if (Array.isArray(one)) return `[${one.map(written)}]`;
    const names = sort ? Object.keys(one).sort() : Object.keys(one);
    return `{${names.map((name) => `${JSON.stringify(name)}:${written(one[name])}`)}}`;
  };
  return written(value).replace(/[\u007f-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The manifest that lies at `base`, a URL; throws where it isn't one, or not what its digest says. */
export async function readManifest(base) {
  if (!globalThis.crypto?.subtle || !JSON.rawJSON) {
    throw new Error("The page needs a browser of 2025 or later, and an address that is https or this machine's own.");
  }
  const text = new TextDecoder("utf-8", { fatal: true }).decode(await fetched(new URL("bundle.json", base)));
  const manifest = JSON.parse(text);
  if (manifest.schema !== SCHEMA) throw new Error(`The page reads bundles of schema ${SCHEMA}, not ${manifest.schema}.`);
  const { digest, ...content } = JSON.parse(text, (_, value, { source }) =>
    typeof value === "number" ? JSON.rawJSON(source) : value);
  const found = await sha256(new TextEncoder().encode(ascii(content, true)));
  if (found !== digest) throw new Error("The bundle is damaged: its manifest has another digest than it says.");
  checkContract(manifest.preprocessing);
  return manifest;
}

/** The bytes of a file that the manifest lists, an artifact or another one; throws unless they have its hash. */
export async function readListed(base, row) {
  if (!row.file.split("/").every((part) => PLAIN.test(part))) {
    throw new Error(`The bundle names a file that lies elsewhere: ${row.file}.`);
  }
  const bytes = await fetched(new URL(row.file, base));
  if (bytes.length !== row.bytes || (await sha256(bytes)) !== row.sha256) {
    throw new Error(`The bundle is damaged: ${row.file} isn't the file that it lists.`);
  }
  return bytes;
}

async function fetched(url) {
  const answer = await fetch(url, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`A file of the page isn't there: ${url.pathname} (${answer.status}).`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** The artifact that is run: the preferred one on the CPU, fp32 on a GPU. Null: there is none. */
export function chooseArtifact(manifest, device) {
  const rows = manifest.artifacts.filter((row) => row.format === "onnx" && ["int8", "fp32"].includes(row.precision));
  if (device === "webgpu") return rows.find((row) => row.precision === "fp32") ?? null;
  return rows.find((row) => row.preferred) ?? rows[0] ?? null;
}

/** {by, threshold}: when a picture gets no answer. Kernels of a GPU are no engine that thresholds were measured on. */
export function abstentionRule(manifest, artifact, device) {
  const rows = (manifest.abstention?.thresholds ?? []).filter((row) => row.artifact === artifact.file);
  if (!rows.length) return { by: "none", threshold: null };
  const own = rows.find((row) => row.engine === "onnxruntime" && row.precision === artifact.precision);
  const threshold = own && device === "cpu" ? own.threshold : Math.max(...rows.map((row) => row.threshold));
  return { by: "bundle", threshold };
}

/** softmax(logits / temperature) in double precision. */
export function probabilities(logits, temperature) {
  const scaled = Array.from(logits, (logit) => logit / temperature);
  const top = Math.max(...scaled);
  const shares = scaled.map((value) => Math.exp(value - top));
  const sum = shares.reduce((a, b) => a + b, 0);
  return shares.map((share) => share / sum);
}

/** {inputs: [Uint8Array (H * W)], row, tolerance}: the golden inputs, and the answers that hold for this artifact. */
export async function golden(base, manifest, artifact, device) {
  const listed = (file) => manifest.files.find((row) => row.file === file);
  if (!listed("golden/inputs.npy") || !listed("golden/expected.json")) throw new Error("The bundle has no golden vectors.");
  const { shape, data } = npy(await readListed(base, listed("golden/inputs.npy")));
  const text = new TextDecoder().decode(await readListed(base, listed("golden/expected.json")));
  const rows = JSON.parse(text).filter((row) => row.artifact === artifact.file);
  if (!rows.length) throw new Error(`The bundle has no golden vectors of ${artifact.file}.`);
  const own = rows.find(({ engine, precision = artifact.precision }) =>
    engine === "onnxruntime" && precision === artifact.precision);
  const row = own ?? rows[0];
  const [count, height, width] = shape;
  const size = height * width;
  return {
    inputs: Array.from({ length: count }, (_, n) => data.subarray(n * size, (n + 1) * size)),
    row,
    tolerance: own && device === "cpu" ? row.tolerance : Math.max(row.tolerance, WIDER_TOLERANCES[artifact.precision]),
  };
}

/** A uint8 array in NumPy's format 1.0 to 3.0. */
function npy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const [start, length] = bytes[6] === 1 ? [10, view.getUint16(8, true)] : [12, view.getUint32(8, true)];
  const header = new TextDecoder().decode(bytes.subarray(start, start + length));
  if (!/'descr': '\|u1'/.test(header) || !/'fortran_order': False/.test(header)) {
    throw new Error("The bundle's golden inputs are no uint8 array.");
  }
  const shape = header.match(/'shape': \(([\d, ]+)\)/)[1].split(",").filter(Boolean).map(Number);
  return { shape, data: bytes.subarray(start + length) };
}
