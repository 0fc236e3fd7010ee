// The table of a page of records: sorts, filters and shows a part of its rows. Values become text, never markup.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("records").textContent);
  const total = data.path.length;
  const collator = new Intl.Collator(undefined, { numeric: true });
  const films = new Set(data.films);
  const byStatus = (i) => data.statuses[data.status[i]];
  const share = (i) => (data.answer[i] < 0 ? null : data.shares[i][data.answer[i]]);
  const reason = (i) => (data.reason[i] < 0 ? ["", ""] : data.reasons[data.reason[i]]);
  const answer = (i) =>
    data.answer[i] >= 0 ? data.labels[data.answer[i]] : [byStatus(i), reason(i)[0]].filter(Boolean).join(": ");
  const fixed = (value, digits) => (value === null || value === undefined ? "" : value.toFixed(digits));
  const pixels = (i) => (data.width[i] === null ? "" : `${data.width[i]} × ${data.height[i]}`);
  const count = (number) => number.toLocaleString("en");

  // key: what a column sorts by, null last whichever way; text: what it shows. `wide`: not on a narrow screen.
  const columns = [
    { title: "File", key: (i) => data.path[i] },
    { title: "Answer", key: answer },
    { title: "p(answer)", key: share, text: (i) => fixed(share(i), 3), number: true },
  ];
  data.labels.forEach((label, k) => {
    // An abstained picture's shares would be read as an answer: they stand in its details alone.
    const key = (i) => (data.answer[i] < 0 ? null : data.shares[i][k]);
    columns.push({ title: `p(${label})`, key, text: (i) => fixed(key(i), 3), number: true, wide: true });
  });
  if (data.ood.some((score) => score !== null)) {
    columns.push({ title: "ood", key: (i) => data.ood[i], text: (i) => fixed(data.ood[i], 3), number: true, wide: true });
  }

  let order = Array.from({ length: total }, (_, i) => i);
  let kept = order;
  let start = 0;
  let sorted = null;

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  const details = (i) => {
    const list = element("dl");
    const say = (term, value) => {
      if (value === "" || value === null || value === undefined) return;
      list.append(element("dt", term), element("dd", String(value)));
    };
    say("status", byStatus(i));
    say("reason", reason(i).filter(Boolean).join(": "));
    data.shares[i].forEach((p, k) => say(`probability of ${data.labels[k]}`, fixed(p, 4)));
    say("ood score", data.ood[i]);
    say("pixels", pixels(i));
    say("bits a sample", data.bits[i]);
    say("rendering", data.rendering[i]);
    say("answered (UTC)", data.time[i]);
    say("SHA-256", data.sha256[i]);
    if (films.has(i)) {
      const link = element("a", "shown below");
      link.href = `#film-${i}`;
      const cell = element("dd");
      cell.append(link);
      list.append(element("dt", "film"), cell);
    }
    const cell = element("td");
    cell.colSpan = columns.length;
    cell.append(list);
    const row = element("tr", undefined, "more");
    row.id = `more-${i}`;
    row.append(cell);
    return row;
  };

  const line = (i) => {
    const row = element("tr");
    columns.forEach((column, position) => {
      const text = column.text ? column.text(i) : column.key(i) || "";
      const cell = element("td", undefined, [column.number ? "n" : "", column.wide ? "wide" : ""].join(" ").trim());
      if (position === 0) {
        const button = element("button", text || "(no name)");
        button.type = "button";
        button.setAttribute("aria-expanded", "false");
        button.addEventListener("click", () => {
          const open = button.getAttribute("aria-expanded") === "false";
          button.setAttribute("aria-expanded", String(open));
          row.classList.toggle("open", open);
          if (open) row.after(details(i));
          else $(`more-${i}`).remove();
        });
        cell.append(button);
      } else {
        cell.textContent = text;
        if (position === 1 && data.answer[i] < 0) cell.classList.add(byStatus(i));
      }
      row.append(cell);
    });
    return row;
  };

  const size = () => Number($("chunk").value);

  const show = () => {
    start = Math.max(0, Math.min(start, Math.floor((kept.length - 1) / size()) * size()));
    const part = kept.slice(start, start + size());
    $("body").replaceChildren(...part.map(line));
    const of = kept.length === total ? count(total) : `${count(kept.length)} found among ${count(total)}`;
    $("shown").textContent = kept.length
      ? `Rows ${count(start + 1)} to ${count(start + part.length)} of ${of}`
      : `No row of ${count(total)} fits`;
    $("first").disabled = $("previous").disabled = start === 0;
    $("next").disabled = $("last").disabled = start + size() >= kept.length;
  };

  const texts = data.path.map((path, i) => `${path}\n${reason(i).join(" ")}\n${data.sha256[i]}`.toLowerCase());
  const bound = (id) => ($(id).value === "" ? null : Number($(id).value));

  const filter = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [wanted, code] = [$("answer").value, $("reason").value];
    const [from, to] = [bound("from"), bound("to")];
    kept = order.filter((i) => {
      if (wanted !== "" && (data.answer[i] < 0 ? byStatus(i) : `=${data.answer[i]}`) !== wanted) return false;
      if (code !== "" && reason(i)[0] !== code) return false;
      const p = share(i);
      if (from !== null && !(p !== null && p >= from)) return false;
      if (to !== null && !(p !== null && p <= to)) return false;
      return words.every((word) => texts[i].includes(word));
    });
    start = 0;
    show();
  };

  const sort = (position, heading) => {
    const down = sorted === position && heading.getAttribute("aria-sort") === "ascending";
    for (const other of $("headings").children) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    sorted = position;
    const keys = order.map((_, i) => columns[position].key(i));
    const compare = (a, b) => {
      if (keys[a] === null || keys[b] === null) return (keys[a] === null) - (keys[b] === null) || a - b;
      const less = typeof keys[a] === "number" ? keys[a] - keys[b] : collator.compare(keys[a], keys[b]);
      return (down ? -less : less) || a - b;
    };
    order = order.slice().sort(compare);
    filter();
  };

  columns.forEach((column, position) => {
    const heading = element("th", undefined, [column.number ? "n" : "", column.wide ? "wide" : ""].join(" ").trim());
    heading.scope = "col";
    heading.setAttribute("aria-sort", "none");
    const button = element("button", column.title);
    button.type = "button";
    button.addEventListener("click", () => sort(position, heading));
    heading.append(button);
    $("headings").append(heading);
  });

  const option = (select, value, text) => {
    const made = element("option", text);
    made.value = value;
    $(select).append(made);
  };
  data.labels.forEach((label, k) => option("answer", `=${k}`, label));
  data.statuses.forEach((status, k) => k && data.status.includes(k) && option("answer", status, status));
  for (const code of new Set(data.reasons.map(([code]) => code))) option("reason", code, code);

  const go = (where) => () => {
    start = where();
    show();
  };
  $("first").addEventListener("click", go(() => 0));
  $("previous").addEventListener("click", go(() => start - size()));
  $("next").addEventListener("click", go(() => start + size()));
  $("last").addEventListener("click", go(() => kept.length - 1));
  $("chunk").addEventListener("change", show);
  let waiting = 0;
  $("controls").addEventListener("input", (event) => {
    if (event.target.id === "chunk") return;
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120); // a word that is still being typed
  });
  $("controls").addEventListener("reset", () => setTimeout(filter));
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  show();
})();
