"use strict";
// Inline SVG: the strip in a row of the table, and line charts with bands of one standard deviation.

const SVG = "http://www.w3.org/2000/svg";

function draw(name, attributes, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Ours as a dot with its deviation and the published number as a tick, on the scale of the column.
function strip(cell, low, high) {
  const at = (value) => 4 + (96 * (value - low)) / (high - low || 1);
  const svg = draw("svg", { class: "strip", viewBox: "0 0 104 18", "aria-hidden": "true" });
  svg.append(draw("line", { class: "track", x1: 4, x2: 100, y1: 9, y2: 9 }));
  if (cell.published !== null) svg.append(draw("line", { class: "paper", x1: at(cell.published), x2: at(cell.published), y1: 2, y2: 16 }));
  if (cell.accuracy !== null) {
    const [left, right] = [Math.max(low, cell.accuracy - cell.std), Math.min(high, cell.accuracy + cell.std)];
    svg.append(draw("line", { class: "spread", x1: at(left), x2: at(right), y1: 9, y2: 9 }));
    svg.append(draw("circle", { class: "dot", cx: at(cell.accuracy), cy: 9, r: 3.6 }));
  }
  return svg;
}

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((x) => x * power).find((x) => x >= raw);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(10)));
  return found;
}

// The first fifth of a run climbs from chance and would flatten everything that differs later.
function range(series, extra, fromZero) {
  const values = [...extra];
  for (const { curve } of series) {
    const skipped = fromZero ? 0 : Math.floor(curve.mean.length / 5);
    for (let i = skipped; i < curve.mean.length; i++) values.push(curve.mean[i] - curve.std[i], curve.mean[i] + curve.std[i]);
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = 0.06 * (high - low || 1);
  return [fromZero && low >= 0 ? 0 : low - room, high + room];
}

// series: [{name, curve: {epochs, mean, std}}]; level: a horizontal line {name, value} or null.
function chart(series, { label, unit = "", level = null, fromZero = false }) {
  const [width, height, left, right, top, bottom] = [innerWidth < 720 ? 340 : 560, 230, 44, 10, 8, 34];
  const [low, high] = range(series, level ? [level.value] : [], fromZero);
  const last = Math.max(...series.map((s) => s.curve.epochs.at(-1)), 2);
  const first = Math.min(...series.map((s) => s.curve.epochs[0]));
  const x = (epoch) => left + ((width - left - right) * (epoch - first)) / (last - first || 1);
  const y = (value) => top + ((height - top - bottom) * (high - value)) / (high - low);
  const svg = draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of ticks(low, high, 4)) {
    svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const epoch of ticks(first, last, 6).filter(Number.isInteger)) {
    svg.append(draw("text", { x: x(epoch), y: height - 18, "text-anchor": "middle" }, String(epoch)));
  }
  svg.append(draw("text", { x: width - right, y: height - 4, "text-anchor": "end" }, "epoch"));
  if (level) svg.append(draw("line", { class: "paper", x1: left, x2: width - right, y1: y(level.value), y2: y(level.value) }));
  // an inner svg clips what lies below the range
  const inner = [left, top, width - left - right, height - top - bottom];
  const plot = draw("svg", { x: inner[0], y: inner[1], width: inner[2], height: inner[3], viewBox: inner.join(" ") });
  svg.append(plot);
  series.forEach(({ curve }, i) => {
    const upper = curve.epochs.map((e, j) => `${x(e).toFixed(1)},${y(curve.mean[j] + curve.std[j]).toFixed(1)}`);
    const lower = curve.epochs.map((e, j) => `${x(e).toFixed(1)},${y(curve.mean[j] - curve.std[j]).toFixed(1)}`);
    if (curve.std.some((s) => s > 0)) plot.prepend(draw("polygon", { class: `area s${i % 4}`, points: [...upper, ...lower.reverse()].join(" ") }));
    plot.append(draw("polyline", { class: `line s${i % 4}`, points: curve.epochs.map((e, j) => `${x(e).toFixed(1)},${y(curve.mean[j]).toFixed(1)}`).join(" ") }));
  });
  return framed(svg, series, level, { first, last, left, right, width, top, bottom, height, x, unit });
}

// A legend above, and the values under the pointer below.
function framed(svg, series, level, frame) {
  const keys = element("ul", { className: "keys" });
  const key = (name, line) => {
    const swatch = draw("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, draw("line", { ...line, x1: 0, x2: 26, y1: 5, y2: 5 }));
    keys.append(element("li", {}, swatch, name));
  };
  series.forEach((s, i) => key(s.name, { class: `s${i % 4}` }));
  if (level) key(`${level.name} ${level.value.toFixed(2)}`, { class: "paper", stroke: "currentColor", "stroke-dasharray": "2 4" });
  const reading = element("p", { className: "reading" });
  const cursor = draw("line", { class: "cursor", y1: frame.top, y2: frame.height - frame.bottom });
  svg.append(cursor);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const part = (((event.clientX - box.left) / box.width) * frame.width - frame.left) / (frame.width - frame.left - frame.right);
    const epoch = Math.round(frame.first + Math.max(0, Math.min(1, part)) * (frame.last - frame.first));
    cursor.setAttribute("x1", frame.x(epoch));
    cursor.setAttribute("x2", frame.x(epoch));
    cursor.style.visibility = "visible";
    const words = series.map(({ name, curve }) => {
      const i = curve.epochs.indexOf(epoch);
      return i < 0 ? null : `${name} ${curve.mean[i].toFixed(2)}${curve.std[i] ? ` ± ${curve.std[i].toFixed(2)}` : ""}${frame.unit}`;
    });
    reading.textContent = [`epoch ${epoch}`, ...words.filter(Boolean)].join(" · ");
  });
  svg.addEventListener("pointerleave", () => {
    cursor.style.visibility = "hidden";
    reading.textContent = "";
  });
  return element("div", {}, keys, svg, reading);
}
