// What is seen of the page: films go to the worker, one after another, and answers come back.

import { ascii } from "./bundle.js";

const worker = new Worker("worker.js", { type: "module" });
const asked = new Map(); // what waits for an answer, by number
let number = 0;
worker.onmessage = ({ data: { id, result, error } }) => {
  const { done, failed } = asked.get(id);
  asked.delete(id);
  if (error === undefined) done(result);
  else failed(new Error(error));
};
worker.onerror = () => say("model", "The page can't start its worker; see the browser's console.", true);
const ask = (what, given = {}) => new Promise((done, failed) => {
  asked.set(++number, { done, failed });
  worker.postMessage({ id: number, what, ...given });
});

const $ = (id) => document.getElementById(id);
const say = (id, text, bad = false) => {
  $(id).textContent = text;
  $(id).classList.toggle("bad", bad);
};
const words = (label) => label.replaceAll("_", " ");
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(3)}`;
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

const records = [];
const urls = []; // of pictures that are shown, to be freed
let [total, done] = [0, 0];

async function open() {
  $("verify").disabled = true;
  say("verified", "");
  say("model", "The model is being loaded…");
  const model = await ask("open", { on: $("device").value });
  const runs = model.device === "webgpu" ? "on the GPU" : `on the CPU, ${model.threads === 1 ? "1 thread" : `${model.threads} threads`}`;
  const silent = model.abstains ? "" : " It answers every picture: it can't tell which is no chest film.";
  const took = ((model.fetched_ms + model.created_ms) / 1000).toFixed(1);
  say("model", `${model.model}, ${model.precision} (${(model.size / 1e6).toFixed(1)} MB), ${runs}; ready after ${took} s.${silent}`);
  $("where").hidden = !model.gpu;
  $("verify").disabled = false;
  return model;
}

let ready = open();
const refused = (error) => say("model", error.message, true);
ready.catch(refused);
$("device").onchange = () => {
  ready = open();
  ready.catch(refused);
};

async function take(files) {
  total += files.length;
  for (const file of files) {
    say("progress", `Scoring ${done + 1} of ${total}…`);
    try {
      await ready;
      show(await ask("score", { file }));
    } catch (error) {
      refused(error);
      total -= 1;
      continue;
    }
    done += 1;
  }
  if (done === total) say("progress", summary());
}

function summary() {
  const count = (status) => records.filter((record) => record.status === status).length;
  const parts = ["scored", "abstained", "rejected"].map((status) => [count(status), status]).filter(([n]) => n);
  if (!parts.length) return "No film yet.";
  return `${records.length} ${records.length === 1 ? "film" : "films"}: ${parts.map(([n, status]) => `${n} ${status}`).join(", ")}.`;
}

let line = Promise.resolve(); // files that are chosen while others are scored wait for them
const choose = (list) => {
  const files = [...list]; // at once: the list is emptied with its field
  line = line.then(() => take(files));
};
$("files").onchange = () => {
  choose($("files").files);
  $("files").value = "";
};
$("choose").ondragover = (event) => {
  event.preventDefault();
  $("choose").classList.add("over");
};
$("choose").ondragleave = () => $("choose").classList.remove("over");
$("choose").ondrop = (event) => {
  event.preventDefault();
  $("choose").classList.remove("over");
  choose(event.dataTransfer.files);
};

function show({ record, labels, film, evidence, of, scale, place, ms }) {
  records.push(record);
  $("actions").hidden = false;
  const item = make("li", { className: record.status }, make("h3", { textContent: record.path }));
  item.append(make("p", { className: "answer", textContent: answer(record) }));
  if (record.status === "scored") item.append(shares(record, labels));
  if (film) {
    const note = record.status === "abstained" ? ", which is no answer" : "";
    item.append(
      make("div", { className: "pictures" },
        figure(film, "The film.", "Film"),
        figure(evidence, `The same film with its evidence for ${words(of)}, strongest in the picture's ${place}.`,
          `Evidence for ${words(of)}${note}: strongest in the picture's ${place}`)),
      make("p", { className: "legend" },
        `${signed(-scale)} against, dashed`, make("span", { className: "ramp" }), `${signed(scale)} for, solid`),
      numbers(record, labels, ms),
    );
  }
  $("films").append(item);
}

function answer({ status, label, error, ood_score, abstain_at, ...record }) {
  if (status === "rejected") return `Rejected: ${error.message}.`;
  if (status === "scored") return `${words(label)}, probability ${record[`p_${label}`].toFixed(3)}`;
  const far = `ood ${ood_score.toPrecision(3)}, threshold ${abstain_at.toPrecision(3)}`;
  return `Abstained, no answer: too unlike frontal chest films (${far})`;
}

function shares(record, labels) {
  const rows = labels.map((label) => {
    const share = record[`p_${label}`];
    const bar = make("div", { className: "bar" });
    bar.style.width = `${100 * share}%`;
    return make("tr", {}, make("th", { scope: "row", textContent: words(label) }),
      make("td", { textContent: share.toFixed(3) }), make("td", { ariaHidden: "true" }, bar));
  });
  return make("table", {}, make("caption", { className: "unseen", textContent: "Probability of each class" }), ...rows);
}

function figure(blob, alt, caption) {
  const src = URL.createObjectURL(blob);
  urls.push(src);
  return make("figure", {}, make("img", { src, alt }), make("figcaption", { textContent: caption }));
}

function numbers(record, labels, ms) {
  const rows = [
    ...labels.map((label) => [`logit ${words(label)}`, record[`logit_${label}`].toFixed(4)]),
    ...(record.ood_score === null ? [] : [["ood", `${record.ood_score.toFixed(4)}, abstains from ${record.abstain_at.toFixed(4)}`]]),
    ["picture", `${record.width} x ${record.height} px, ${record.bits} bits`],
    ["SHA-256", record.sha256],
    ["time", `${ms.toFixed(0)} ms, ${record.precision} on ${record.provider}`],
  ];
  const list = make("dl", {}, ...rows.flatMap(([name, value]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  return make("details", {}, make("summary", { textContent: "Numbers" }), list);
}

$("save").onclick = () => {
  const text = records.map((record) => `${ascii(record)}\n`).join("");
  const href = URL.createObjectURL(new Blob([text], { type: "application/x-ndjson" }));
  make("a", { href, download: "records.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // once it is surely saved
};

$("clear").onclick = () => {
  urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
  records.length = 0;
  $("films").replaceChildren();
  $("actions").hidden = true;
  say("progress", summary());
  $("files").focus();
};

$("verify").onclick = async () => {
  $("verify").disabled = true;
  say("verified", "The golden pictures are being scored…");
  try {
    const { passed, pictures, worst, tolerance, oodWorst, oodTolerance, milliseconds } = await ask("verify");
    const ood = oodTolerance === null ? "" : `, and ood by ${oodWorst.toPrecision(2)} (accepted: ${oodTolerance})`;
    const middle = milliseconds.sort((a, b) => a - b)[Math.floor(milliseconds.length / 2)];
    say("verified", `${passed ? "Right" : "WRONG"} on ${pictures} pictures: a logit is off by at most ` +
      `${worst.toPrecision(2)} (accepted: ${tolerance})${ood}. ${middle.toFixed(0)} ms a picture.`, !passed);
  } catch (error) {
    say("verified", error.message, true);
  }
  $("verify").disabled = false;
};
