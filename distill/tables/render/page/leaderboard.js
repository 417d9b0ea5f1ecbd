// The table: state in the hash of the address, everything from the table set as text and never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = new Map(data.cells.map((cell) => [cell.id, cell]));
const several = data.columns.length > 1;
const place = new Map(data.columns.map((column, i) => [column.key, i]));

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}
const $ = (id) => document.getElementById(id);

// Heads: how a column sorts (`value`, null last), which way first, and what its cells show.
const HEADS = {
  rank: { title: "#", value: (c) => c.rank, first: "asc", show: (c) => element("td", { className: "rank" }, c.rank ? String(c.rank) : "") },
  method: { title: "Method", value: (c) => c.title.toLowerCase(), first: "asc", left: true, show: name },
  column: { title: "Column", value: (c) => place.get(c.column), first: "asc", left: true, hidden: !several, show: (c) => element("td", { className: "left column" }, c.columnTitle) },
  accuracy: { title: "Ours, %", value: (c) => c.accuracy, first: "desc", show: ours },
  published: { title: "Published", value: (c) => c.published, first: "desc", show: published },
  delta: { title: "Δ", value: (c) => c.delta, first: "desc", show: delta },
  gain: { title: `Over ${data.baseline}`, value: (c) => c.gain, first: "desc", show: gain },
  agreement: { title: "Agreement", value: (c) => c.agreement, first: "desc", show: plain("agreementText") },
  seconds: { title: "Time", value: (c) => c.seconds, first: "asc", show: plain("secondsText") },
  cpu: { title: "CPU time", value: (c) => c.cpu_seconds, first: "asc", show: plain("cpuText") },
  memory: { title: "Memory", value: (c) => c.peak_memory, first: "asc", show: plain("memoryText") },
  params: { title: "Params", value: (c) => c.params, first: "asc", show: plain("paramsText") },
  flops: { title: "FLOPs", value: (c) => c.flops, first: "asc", show: plain("flopsText") },
};
const shownHeads = Object.keys(HEADS).filter((key) => {
  const head = HEADS[key];
  const needed = ["rank", "method", "accuracy"].includes(key) || data.cells.some((c) => head.value(c) !== null);
  return !head.hidden && needed;
});

function plain(key) {
  return (c) => element("td", {}, c[key]);
}

function name(c) {
  const toggle = element("button", { type: "button" }, c.title);
  toggle.setAttribute("aria-expanded", String(state.open.has(c.id)));
  const where = several ? element("span", { className: "where" }, c.columnTitle) : null;
  return element("th", { className: "left name", scope: "row" }, toggle, where);
}

const scales = new Map(data.columns.map(({ key }) => {
  const values = data.cells.filter((c) => c.column === key).flatMap((c) => [c.accuracy === null ? null : c.accuracy - c.std, c.accuracy === null ? null : c.accuracy + c.std, c.published]);
  const known = values.filter((v) => v !== null);
  return [key, known.length ? [Math.min(...known), Math.max(...known)] : [0, 1]];
}));

function ours(c) {
  const number = element("span", { className: c.short ? "number few" : "number" }, c.text);
  if (c.short) number.title = "fewer seeds than the table declares";
  const mark = element("span", { className: "mark" }, c.tied ? "≈" : "");
  if (c.tied) mark.title = "not distinguishable from the best of its column";
  const cell = element("td", { className: c.accuracy === null ? "absent" : c.best ? "best" : "" });
  cell.append(element("span", { className: "ours" }, strip(c, ...scales.get(c.column)), element("span", {}, number, mark)));
  return cell;
}

function published(c) {
  const cell = element("td", {}, c.published === null ? "" : c.published.toFixed(2));
  cell.title = c.publishedAll.map((p) => `${p.value}: ${p.title} (${p.rule})`).join("\n");
  return cell;
}

function delta(c) {
  const cell = element("td", { className: c.departs ? "departs" : "" }, c.deltaText);
  if (c.ruleNote) cell.append(element("span", { className: "soft", title: c.ruleNote }, " ‡"));
  if (c.departs) cell.title = `more than ${data.tolerance} points from the published number`;
  return cell;
}

function gain(c) {
  const [mean, rest] = [c.gainText.split(" ")[0], c.gainText.split(" ").slice(1).join(" ")];
  return element("td", {}, mean, rest && element("span", { className: "soft" }, ` ${rest}`));
}

// State, and the hash that holds it: #sort=accuracy&dir=desc&filter=kd&group=distilled&column=a&run=1&open=row/column&theme=dark
const DEFAULTS = { sort: "rank", dir: "asc", filter: "", group: "", column: "", run: "", theme: "" };
let state = read();

function read() {
  const found = new URLSearchParams(location.hash.slice(1));
  const next = { ...DEFAULTS };
  for (const key of Object.keys(DEFAULTS)) next[key] = found.get(key) ?? DEFAULTS[key];
  if (!shownHeads.includes(next.sort)) next.sort = DEFAULTS.sort;
  if (!["asc", "desc"].includes(found.get("dir"))) next.dir = HEADS[next.sort].first;
  if (!(next.group in data.kinds)) next.group = "";
  if (!place.has(next.column)) next.column = "";
  if (!["light", "dark"].includes(next.theme)) next.theme = "";
  next.open = new Set((found.get("open") ?? "").split(",").filter((id) => byId.has(id)));
  return next;
}

function write(changes) {
  Object.assign(state, changes);
  const words = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS)) {
    const usual = key === "dir" ? HEADS[state.sort].first : DEFAULTS[key];
    if (state[key] !== usual) words.set(key, state[key]);
  }
  if (state.open.size) words.set("open", [...state.open].join(","));
  history.replaceState(null, "", `#${words.toString().replaceAll("%2F", "/").replaceAll("%2C", ",")}`);
  show();
}

function visible() {
  const words = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
  const found = data.cells.filter((c) => {
    const text = [c.title, c.columnTitle, c.note, data.kinds[c.kind], ...c.commands].join(" ").toLowerCase();
    return words.every((word) => text.includes(word)) && (!state.group || c.kind === state.group)
      && (!state.column || c.column === state.column) && (!state.run || c.accuracy !== null);
  });
  const value = HEADS[state.sort].value;
  const way = state.dir === "asc" ? 1 : -1;
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
  return found.sort((a, b) => {
    // places are those within a column: columns stay together, teachers first, what was not run last
    if (state.sort === "rank" && a.column !== b.column) return place.get(a.column) - place.get(b.column);
    const teachers = state.sort === "rank" ? Number(b.kind === "teacher") - Number(a.kind === "teacher") : 0;
    const [x, y] = [value(a), value(b)];
    const nulls = Number(x === null) - Number(y === null);
    return teachers || nulls || (x === null ? 0 : way * compare(x, y)) || a.order - b.order;
  });
}

function show() {
  const root = document.documentElement;
  root.style.colorScheme = state.theme || "light dark";
  const dark = state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  $("theme").textContent = dark ? "Light" : "Dark";
  for (const key of ["filter", "group", "column"]) if ($(key).value !== state[key]) $(key).value = state[key];
  $("run").checked = Boolean(state.run);
  for (const head of $("heads").children) {
    const sorted = head.dataset.key === state.sort;
    head.setAttribute("aria-sort", sorted ? (state.dir === "asc" ? "ascending" : "descending") : "none");
  }
  const cells = visible();
  $("count").textContent = `${cells.length} of ${data.cells.length} cells`;
  const focused = document.activeElement?.closest?.("tr.cell")?.dataset.id;
  const rows = cells.flatMap((c, i) => {
    const next = several && state.sort === "rank" && i > 0 && cells[i - 1].column !== c.column;
    return state.open.has(c.id) ? [line(c, next), detail(c)] : [line(c, next)];
  });
  if (!rows.length) rows.push(element("tr", {}, element("td", { className: "empty", colSpan: shownHeads.length }, "Nothing matches. Reset shows all cells.")));
  $("body").replaceChildren(...rows);
  if (focused) [...$("body").children].find((row) => row.dataset.id === focused)?.querySelector(".name button").focus();
}

function line(c, next) {
  const row = element("tr", { className: `cell${state.open.has(c.id) ? " open" : ""}${next ? " group" : ""}` });
  row.dataset.id = c.id;
  row.append(...shownHeads.map((key) => HEADS[key].show(c)));
  row.addEventListener("click", () => {
    if (String(getSelection())) return; // selecting numbers to copy is no click
    const open = new Set(state.open);
    if (!open.delete(c.id)) open.add(c.id);
    write({ open });
  });
  return row;
}

function detail(c) {
  const panel = element("div", { className: "panel" });
  const base = data.cells.find((b) => b.row === data.baselineRow && b.column === c.column);
  if (c.curve) {
    const series = [{ name: c.title, curve: c.curve }];
    if (base && base !== c && base.curve && c.kind !== "teacher") series.push({ name: base.title, curve: base.curve });
    const level = c.published === null ? null : { name: "published", value: c.published };
    panel.append(section("Test accuracy, %", chart(series, { label: `test accuracy of ${c.title} by epoch`, unit: " %", level })));
  } else if (c.accuracy !== null) panel.append(section("Test accuracy, %", element("p", { className: "muted" }, "No curves were kept.")));
  const moving = Object.entries(c.schedules).filter(([, curve]) => curve && new Set(curve.mean).size > 1);
  const fixed = Object.entries(c.schedules).filter(([, curve]) => curve && new Set(curve.mean).size === 1);
  if (moving.length) panel.append(section("Schedules", chart(moving.map(([key, curve]) => ({ name: key, curve })), { label: "schedules by epoch", fromZero: true })));
  const side = element("div", { className: panel.children.length > 1 ? "wide" : "" });
  if (c.runs.length) side.append(section("Trainings", runs(c)));
  if (fixed.length) side.append(element("p", { className: "muted" }, `constant: ${fixed.map(([key, curve]) => `${key} ${curve.mean[0]}`).join(", ")}`));
  for (const words of [c.note, c.ruleNote && `Δ: ${c.ruleNote}`, ...c.publishedAll.map((p) => `published ${p.value}: ${p.title} (${p.rule})`)]) {
    if (words) side.append(element("p", { className: "muted" }, words));
  }
  if (side.children.length) panel.append(side);
  if (c.commands.length) {
    const box = section(c.runs.length ? "Train it again" : "Not run yet; train it with", ...c.commands.map(command));
    box.classList.add("wide");
    panel.append(box);
  }
  return element("tr", { className: "detail" }, element("td", { colSpan: shownHeads.length }, panel));
}

function section(title, ...children) {
  return element("section", {}, element("h3", {}, title), ...children);
}

function runs(c) {
  const heads = { seed: "seed", last: "last", best_on_test: "best on test", val_chosen: "chosen on val", agreement: "agreement", seconds: "time", device: "device", git: "commit" };
  if (data.provenance.devices.length < 2) delete heads.device; // it stands above the table
  const kept = Object.keys(heads).filter((key) => c.runs.some((run) => run[key] !== ""));
  const table = element("table", { className: "runs" });
  table.append(element("thead", {}, element("tr", {}, ...kept.map((key) => element("th", { scope: "col" }, heads[key])))));
  table.append(element("tbody", {}, ...c.runs.map((run) => element("tr", { title: `${run.label}, finished ${run.finished}` }, ...kept.map((key) => element("td", {}, String(run[key])))))));
  return element("div", { className: "runsbox" }, table);
}

function command(words) {
  const copy = element("button", { type: "button", className: "quiet" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(words);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // no clipboard on this page: select it for the reader
      copy.textContent = "Selected";
    }
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  const code = element("code", {}, words);
  return element("div", { className: "command" }, code, copy);
}

function list(title, lines, kind = "") {
  if (lines.length) $("more").append(element("h2", {}, title), element("ul", { className: kind }, ...lines.map((x) => element("li", {}, ...[x].flat()))));
}

function build() {
  document.title = data.title;
  for (const key of ["title", "paper", "note"]) $(key).textContent = data[key];
  const facts = { Trainings: `${data.done} of ${data.wanted} done`, Accuracy: data.rule, "Seeds a cell": data.seeds, Tolerance: `${data.tolerance} points`, Devices: data.provenance.devices.join("; ") || "none yet" };
  for (const [key, value] of Object.entries(facts)) $("facts").append(element("div", {}, element("dt", {}, key), element("dd", {}, String(value))));
  for (const key of shownHeads) {
    const head = element("th", { scope: "col", className: HEADS[key].left ? "left" : "" }, element("button", { type: "button" }, HEADS[key].title));
    if (key === "method") head.classList.add("first");
    if (key === "column") head.classList.add("column");
    head.dataset.key = key;
    head.firstChild.addEventListener("click", () => {
      const flip = { asc: "desc", desc: "asc" };
      write({ sort: key, dir: state.sort === key ? flip[state.dir] : HEADS[key].first });
    });
    $("heads").append(head);
  }
  $("group").append(new Option("all", ""), ...Object.entries(data.kinds).map(([key, title]) => new Option(title, key)));
  $("column").append(new Option("all", ""), ...data.columns.map((c) => new Option(c.title, c.key)));
  $("columnLabel").hidden = !several;
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const key of ["filter", "group", "column"]) $(key).addEventListener("input", () => write({ [key]: $(key).value }));
  $("run").addEventListener("input", () => write({ run: $("run").checked ? "1" : "" }));
  $("reset").addEventListener("click", () => write({ ...DEFAULTS, theme: state.theme, open: new Set() }));
  $("theme").addEventListener("click", () => write({ theme: $("theme").textContent.toLowerCase() }));
  const marks = ["Click a row for its curves and the command that trains it again.", "Mean ± sample standard deviation (n seeds); bold: best of its column.", "≈: the 95 % interval of the difference to the best, paired by seed, holds 0 (it takes two seeds to tell)."];
  if (data.cells.some((c) => c.published !== null)) marks.push(`Δ: ours minus published; †: beyond ${data.tolerance} points; in the strip, the dot is ours and the tick is published.`);
  if (data.cells.some((c) => c.ruleNote)) marks.push("‡: compared by the rule of the source, which is not the rule of this table.");
  $("legend").textContent = marks.join(" ");
  footer();
  addEventListener("hashchange", () => { state = read(); show(); });
  show();
  // a table that fits keeps its heads in sight; one that is wider scrolls and keeps its names in sight
  const box = document.querySelector(".scroll");
  new ResizeObserver(() => box.classList.toggle("fits", $("board").offsetWidth <= box.clientWidth)).observe(box);
}

function footer() {
  list("Warnings", data.warnings, "warnings");
  list("Left out", data.leftOut);
  list("Columns", data.columns.filter((c) => c.note).map((c) => `${c.title}: ${c.note}`));
  list("Sources of the published numbers", data.sources.map((s) => [
    `${s.key}: `, s.url ? element("a", { href: s.url, rel: "noopener noreferrer" }, s.title) : s.title, `, ${s.rule}${s.note ? `. ${s.note}` : ""}`]));
  list("Provenance", Object.entries(data.provenance).filter(([, v]) => v.length).map(([key, v]) => `${key}: ${v.join("; ")}`));
  list("Run the whole table", [[element("code", {}, data.command)]]);
}

build();
