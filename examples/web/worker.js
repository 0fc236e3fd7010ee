// Beside the page, so that it stays alive meanwhile: the network, and a film's way from bytes to its answer.
//
// bytes -> decode -> grey -> preprocess -> uint8 (H, W) -> run -> logits (K,), evidence (h, w, K), ood (1,) -> record

import { abstentionRule, chooseArtifact, golden, probabilities, readListed, readManifest, sha256 } from "./bundle.js";
import { decode, Rejected } from "./decode.js";
import { plain, reduced, scaleOf, strongestPlace, tinted } from "./overlay.js";
import { contrast, preprocess, toUint8 } from "./preprocess.js";

const BASE = new URL("bundle/", self.location);
const MIN_CONTRAST = 2; // grey levels; standard deviation of a picture that shows anything
const OUTPUTS = ["evidence", "logits", "ood"];

let ort, manifest, artifact, session, rule, device;

/** Load what the bundle has for `on`, "cpu" or "webgpu"; says what that is, and how long it took. */
async function open({ on }) {
  const begin = performance.now();
  manifest ??= await readManifest(BASE);
  const chosen = chooseArtifact(manifest, on);
  if (!chosen) throw new Error(`The bundle has no ONNX file for ${on}.`);
  const network = await readListed(BASE, chosen);
  const fetched = performance.now();
  const engine = await import(on === "webgpu" ? "./ort/ort.webgpu.min.mjs" : "./ort/ort.wasm.min.mjs");
  // Threads are as many as ONNX Runtime takes by itself: half of the processors, in a page that its server's headers
  // isolate from others, and else one. More of them wait for each other where something else runs as well.
  const loaded = await engine.InferenceSession.create(network, { executionProviders: [on === "webgpu" ? "webgpu" : "wasm"] });
  const thresholds = abstentionRule(manifest, chosen, on);
  const outputs = loaded.outputNames;
  if (!outputs.includes("logits") || !outputs.includes("evidence") || outputs.some((name) => !OUTPUTS.includes(name))) {
    throw new Error(`The page knows the outputs ${OUTPUTS.join(", ")}, not: ${outputs.join(", ")}.`);
  }
  if (outputs.includes("ood") !== (thresholds.threshold !== null)) {
    throw new Error("The bundle has thresholds without the output ood, or the output without thresholds.");
  }
  await session?.release();
  [ort, artifact, session, rule, device] = [engine, chosen, loaded, thresholds, on];
  const created = performance.now();
  return {
    model: `${manifest.name} ${manifest.version}`, digest: manifest.digest, precision: artifact.precision, device,
    size: artifact.bytes, abstains: rule.threshold !== null, threads: engine.env.wasm.numThreads,
    gpu: chooseArtifact(manifest, "webgpu") !== null && !!(await self.navigator.gpu?.requestAdapter()),
    fetched_ms: fetched - begin, created_ms: created - fetched,
  };
}

/** {logits, evidence, ood or null, grid: [h, w]} of one image, uint8 of the contract's size. */
async function run(image) {
  const { height, width } = manifest.preprocessing;
  const found = await session.run({ image: new ort.Tensor("uint8", image, [1, height, width, 1]) });
  const [, rows, columns] = found.evidence.dims;
  return { logits: found.logits.data, evidence: found.evidence.data, ood: found.ood?.data[0] ?? null, grid: [rows, columns] };
}

/** The record of a file (docs/records.md), and what is to be shown of it. */
async function score({ file }) {
  const begin = performance.now();
  const { labels, temperature, preprocessing } = manifest;
  const known = { sha256: null, bytes: null, width: null, height: null, bits: null };
  let [answer, error, image] = [null, null, null];
  let shown = {};
  try {
    const bytes = await read(file);
    Object.assign(known, { sha256: await sha256(bytes), bytes: bytes.length });
    const picture = await decode(bytes, preprocessing);
    Object.assign(known, { width: picture.file[0], height: picture.file[1], bits: picture.bits });
    const film = toUint8(picture.pixels, picture.bits);
    image = preprocess(film, picture.width, picture.height, preprocessing);
    if (contrast(image) < MIN_CONTRAST) throw new Rejected("blank", "the picture is blank");
    const found = await run(image);
    if (![...found.logits, found.ood ?? 0].every(Number.isFinite)) {
      throw new Rejected("not_finite", "the network's answer is not a finite number");
    }
    answer = { ...found, shares: probabilities(found.logits, temperature) };
    shown = { ms: performance.now() - begin, ...(await drawn(film, picture, found)) };
  } catch (caught) {
    if (!(caught instanceof Rejected)) throw caught;
    error = { code: caught.code, message: caught.message };
    answer = null;
  }
  const abstained = answer !== null && rule.threshold !== null && answer.ood >= rule.threshold;
  const best = answer ? answer.shares.indexOf(Math.max(...answer.shares)) : -1;
  const each = (name, values) => labels.map((label, k) => [`${name}_${label}`, values ? values[k] : null]);
  const record = {
    schema: 4, path: file.name, sha256: known.sha256, bytes: known.bytes, mtime_ns: null,
    status: error ? "rejected" : abstained ? "abstained" : "scored", label: error || abstained ? null : labels[best],
    ...Object.fromEntries([...each("p", answer?.shares), ...each("logit", answer?.logits)]),
    ood_score: answer?.ood ?? null, abstention: rule.by, abstain_at: rule.threshold,
    error, width: known.width, height: known.height, bits: known.bits, rendering: null,
    model: `${manifest.name} ${manifest.version}`, bundle_sha256: manifest.digest, engine: "onnxruntime-web",
    provider: device === "webgpu" ? "WebGPU" : "WebAssembly", device, precision: artifact.precision,
    time_utc: new Date().toISOString(),
  };
  return { record, labels, image, ...shown };
}

async function read(file) {
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Rejected("unreadable", "the file can't be read");
  }
}

/** The film and its evidence as JPEGs, for the class of the greatest logit. */
async function drawn(film, { width, height }, { logits, evidence, grid: [rows, columns] }) {
  const { labels } = manifest;
  const best = logits.indexOf(Math.max(...logits));
  const map = Float32Array.from({ length: rows * columns }, (_, k) => evidence[k * labels.length + best]);
  const small = reduced(film, width, height);
  const [plainFilm, withEvidence] = await Promise.all([plain(small), tinted(small, map, columns, rows)].map((rgba) => {
    const canvas = new OffscreenCanvas(small.width, small.height);
    canvas.getContext("2d").putImageData(new ImageData(rgba, small.width, small.height), 0, 0);
    return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
  }));
  const place = strongestPlace(map, columns, rows);
  return { film: plainFilm, evidence: withEvidence, of: labels[best], scale: scaleOf(map), place };
}

/** The golden inputs through the network that is open, one at a time: is it right on this device? */
async function verify() {
  const { inputs, row, tolerance } = await golden(BASE, manifest, artifact, device);
  const oodTolerance = row.ood ? (row.ood_tolerance * tolerance) / row.tolerance : null;
  let [worst, oodWorst] = [0, 0];
  const milliseconds = [];
  for (const [n, image] of inputs.entries()) {
    const begin = performance.now();
    const { logits, ood } = await run(image);
    milliseconds.push(performance.now() - begin);
    // A NaN stays, and is no answer within a tolerance.
    row.logits[n].forEach((value, k) => (worst = Math.max(worst, Math.abs(value - logits[k]))));
    if (row.ood) oodWorst = Math.max(oodWorst, Math.abs([row.ood[n]].flat()[0] - ood));
  }
  const passed = worst <= tolerance && (oodTolerance === null || oodWorst <= oodTolerance);
  return { passed, pictures: inputs.length, worst, tolerance, oodWorst, oodTolerance, milliseconds };
}

const CAN = { open, score, verify };
let last = Promise.resolve(); // one at a time, as asked

self.onmessage = ({ data: { id, what, ...given } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, result: await CAN[what](given) });
    } catch (error) {
      self.postMessage({ id, error: error.message });
    }
  });
};
