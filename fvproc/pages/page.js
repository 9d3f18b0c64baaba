"use strict";
// Maps, numbers and curves of one output. All values are SI; readable() alone turns them into what people read.
const data = JSON.parse(document.getElementById("data").textContent);
const { grid, quantities } = data;
const byName = Object.fromEntries(quantities.map((q) => [q.name, q]));
const CONFIG = { displaylogo: false, responsive: true, scrollZoom: true, doubleClick: "reset", modeBarButtonsToRemove: ["select2d", "lasso2d"],
  toImageButtonOptions: { format: "svg" } };
const FONT = { family: "system-ui, 'DejaVu Sans', sans-serif", size: 11, color: "#222" };
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444", "#f0e442"];
const PREFIXES = { "-15": "f", "-12": "p", "-9": "n", "-6": "µ", "-3": "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T" };

function bytes(text) {
  const binary = atob(text), found = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) found[i] = binary.charCodeAt(i);
  return found.buffer;
}
for (const quantity of quantities) quantity.values = new Float32Array(bytes(quantity.data));
const flags = new Uint32Array(bytes(data.flags));

function readable(unit, value) {
  if (unit === "1" || unit === "") return { factor: 1, unit: "" };
  let factor = 1;
  if (unit === "J") { factor = 1 / 1.602176634e-19; unit = "eV"; }
  const size = Math.abs(value) * factor;
  if (!(size > 0) || !isFinite(size)) return { factor, unit };
  const power = Math.min(Math.max(3 * Math.floor(Math.log10(size * (1 + 1e-7)) / 3), -15), 12);
  return { factor: factor * 10 ** -power, unit: PREFIXES[power] + unit };
}
function number(value) { return Number(value.toPrecision(4)).toString().replace("-", "−"); }
function amount(unit, value, error) {
  if (!isFinite(value)) return "no value";
  const shown = readable(unit, value);
  const text = number(value * shown.factor);
  return (isFinite(error) && error > 0 ? `${text} ± ${Number((error * shown.factor).toPrecision(2))}` : text)
    + (shown.unit ? ` ${shown.unit}` : "");
}
function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}
function row(cells, header) {
  const made = element("tr");
  for (const cell of cells) {
    const [text, kind] = Array.isArray(cell) ? cell : [cell, ""];
    made.append(element(header ? "th" : "td", text, kind));
  }
  return made;
}

// ---- maps -----------------------------------------------------------------------------------------------------
// a scan of unknown size is measured in pixels, which take no prefix
const length = grid.unit === "px" ? { factor: 1, unit: "px" } : readable("m", Math.max(grid.ny * grid.dy, grid.nx * grid.dx));
const slots = [];
const finer = data.server && grid.step > 1; // there is more to see than the page holds, and somebody to ask for it
// what is on the maps now: a window of the scan, every step-th pixel of it
const whole = { y0: 0, x0: 0, ny: grid.rows, nx: grid.columns, step: grid.step };
let pinned = null;
const ALL = { x: [0, grid.nx * grid.dx * length.factor], y: [0, grid.ny * grid.dy * length.factor] };

function place(y, x) { return [(y + 0.5) * grid.dy * length.factor, (x + 0.5) * grid.dx * length.factor]; }
function pixelAt(point) {
  const clamp = (value, most) => Math.min(Math.max(value, 0), most - 1);
  return [clamp(Math.floor(point.y / (grid.dy * length.factor)), grid.ny),
    clamp(Math.floor(point.x / (grid.dx * length.factor)), grid.nx)];
}
function rows(values, view, log) {
  const found = [];
  for (let r = 0; r < view.ny; r++) {
    const line = values.subarray(r * view.nx, (r + 1) * view.nx);
    found.push(log ? line.map((v) => (v > 0 ? Math.log10(v) : v <= 0 ? -99 : NaN)) : line);
  }
  return found;
}
function colourBar(quantity, shown) {
  const bar = { thickness: 11, outlinewidth: 0.5, title: { text: shown.unit, side: "top" }, tickfont: FONT };
  if (quantity.log) {
    const ticks = [];
    for (let power = -18; power <= 18; power++) {
      for (const digit of [1, 3]) ticks.push(digit * 10 ** power);
    }
    bar.tickvals = ticks.map((tick) => Math.log10(tick / shown.factor));
    bar.ticktext = ticks.map((tick) => number(tick));
  }
  return bar;
}
function heatmap(quantity, view, values) {
  const shown = readable(quantity.unit, quantity.median);
  const scale = (value) => (quantity.log ? Math.log10(value) : value * shown.factor);
  const drawn = quantity.log ? values : values.map((v) => v * shown.factor);
  const [y0, x0] = place(view.y0 + (view.step - 1) / 2, view.x0 + (view.step - 1) / 2);
  return { type: "heatmap", z: rows(drawn, view, quantity.log), zsmooth: false, hoverinfo: "none", hoverongaps: true,
    x0, y0, dx: grid.dx * view.step * length.factor, dy: grid.dy * view.step * length.factor,
    zmin: scale(quantity.low), zmax: scale(quantity.high), colorscale: quantity.colours,
    colorbar: colourBar(quantity, shown) };
}
function marks() {
  const at = Object.keys(data.curves).map((key) => place(...key.split(",").map(Number)));
  const mine = pinned ? place(...pinned) : [null, null];
  const common = { type: "scatter", mode: "markers", hoverinfo: "skip", showlegend: false };
  return [{ ...common, x: at.map((p) => p[1]), y: at.map((p) => p[0]),
    marker: { symbol: "circle-open", size: 7, color: "#fff", line: { width: 1.2 } } },
  { ...common, x: [mine[1]], y: [mine[0]],
    marker: { symbol: "cross-thin", size: 15, line: { width: 2.2, color: "#ff2d7a" } } }];
}
function axis(label) {
  return { title: { text: `${label} (${length.unit})`, font: FONT, standoff: 4 }, tickfont: FONT, zeroline: false,
    showgrid: false, constrain: "domain", ticks: "outside", ticklen: 3 };
}
function draw(slot) {
  const quantity = byName[slot.select.value];
  const layout = { margin: { l: 46, r: 8, t: 28, b: 36 }, font: FONT, dragmode: "zoom", plot_bgcolor: "#d9d9d9",
    hovermode: "closest", xaxis: axis("x"), yaxis: { ...axis("y"), scaleanchor: "x" }, uirevision: "all" };
  const ranges = slot.ranges || ALL;
  layout.xaxis.range = [...ranges.x];
  layout.yaxis.range = [...ranges.y];
  const view = slot.view || whole;
  const values = slot.view && slot.values ? slot.values : quantity.values;
  return Plotly.react(slot.plot, [heatmap(quantity, view, values), ...marks()], layout, CONFIG);
}
function addMap(name) {
  const box = element("div", undefined, "map"), select = element("select"), plot = element("div", undefined, "plot");
  for (const quantity of quantities) {
    const option = element("option", quantity.label);
    option.value = quantity.name;
    select.append(option);
  }
  select.value = name;
  select.setAttribute("aria-label", "Quantity of this map");
  box.append(select, plot);
  document.getElementById("maps").append(box);
  const slot = { select, plot, ranges: null, view: null, values: null, asked: 0 };
  slots.push(slot);
  select.addEventListener("change", () => (finer ? refine(slot) : draw(slot)));
  draw(slot).then(() => {
    plot.on("plotly_click", (event) => pin(...pixelAt(event.points[0])));
    plot.on("plotly_hover", (event) => { if (!pinned) tell(...pixelAt(event.points[0])); });
    plot.on("plotly_relayout", (change) => follow(slot, change));
  });
}
let following = false, wanted = null;
async function follow(from, change) {
  const moved = Object.keys(change).some((key) => /^[xy]axis\.(range|autorange)/.test(key));
  const told = from.ranges || ALL;
  const own = ["x", "y"].every((name) => change[`${name}axis.range`]?.join() === told[name].join()); // was set below
  if (own || !moved) return;
  const { xaxis, yaxis } = from.plot._fullLayout;
  const all = change["xaxis.autorange"] || change["yaxis.autorange"]
    || xaxis.range[1] - xaxis.range[0] >= ALL.x[1] || yaxis.range[1] - yaxis.range[0] >= ALL.y[1];
  wanted = { ranges: all ? null : { x: [...xaxis.range], y: [...yaxis.range] } };
  if (following) return; // the loop that runs takes it up
  following = true;
  try {
    while (wanted) {
      const { ranges } = wanted, { x, y } = ranges || ALL;
      wanted = null;
      for (const slot of slots) {
        if (wanted) break;
        slot.ranges = ranges;
        const shown = slot.plot._fullLayout;
        if (shown.xaxis.range.join() !== x.join() || shown.yaxis.range.join() !== y.join()) {
          await Plotly.relayout(slot.plot, { "xaxis.range": [...x], "yaxis.range": [...y] });
        }
        if (finer) await refine(slot);
      }
    }
  } finally { following = false; }
}
// the viewer of a map too large for a page: fetch what the window shows, as fine as the screen
async function refine(slot) {
  const mine = ++slot.asked; // an answer that comes after the next question is of another quantity or window
  if (!slot.ranges) { slot.view = null; await draw(slot); return; }
  const low = pixelAt({ y: Math.min(...slot.ranges.y), x: Math.min(...slot.ranges.x) });
  const high = pixelAt({ y: Math.max(...slot.ranges.y), x: Math.max(...slot.ranges.x) });
  const query = new URLSearchParams({ name: slot.select.value, y0: low[0], y1: high[0] + 1, x0: low[1], x1: high[1] + 1 });
  const answer = await fetch(`window?${query}`).catch(() => null);
  const content = answer?.ok ? await answer.arrayBuffer().catch(() => null) : null;
  if (mine !== slot.asked) return;
  if (!content) { slot.view = null; await draw(slot); return; } // coarse, but of the quantity that is named
  const [y0, x0, ny, nx, step] = answer.headers.get("X-Window").split(",").map(Number);
  slot.view = { y0, x0, ny, nx, step };
  slot.values = new Float32Array(content);
  await draw(slot);
}

// ---- one pixel ------------------------------------------------------------------------------------------------
function flagNames(bits) {
  return data.flag_meanings.filter((flag) => Math.floor(bits / 2 ** flag.bit) % 2 === 1);
}
async function recordAt(y, x) {
  if (data.server) {
    const answer = await fetch(`numbers?y=${y}&x=${x}`);
    if (answer.ok) return answer.json();
  }
  const r = Math.floor(y / grid.step), c = Math.floor(x / grid.step), at = r * grid.columns + c;
  // a curve of a large map may be of a pixel that the map passes over: it comes with its own numbers
  const inside = (key) => key.split(",").every((part, i) => Math.floor(part / grid.step) === [r, c][i]);
  const curve = data.curves[`${y},${x}`] ?? data.curves[`${r * grid.step},${c * grid.step}`]
    ?? data.curves[Object.keys(data.curves).find(inside)];
  if (curve) return curve.record;
  const found = { y: r * grid.step, x: c * grid.step, flags: flags[at], values: {} };
  for (const quantity of quantities) found.values[quantity.name] = quantity.values[at];
  return found;
}
let asked = 0;
async function tell(y, x) {
  const mine = ++asked, record = await recordAt(y, x);
  if (mine !== asked) return record; // the mouse has moved on
  document.getElementById("pixel").textContent = `Row ${record.y}, column ${record.x}`;
  const table = document.getElementById("numbers");
  table.replaceChildren();
  for (const quantity of quantities) {
    if (quantity.name.endsWith("_std")) continue;
    const value = record.values[quantity.name] ?? NaN, error = record.values[`${quantity.name}_std`] ?? NaN;
    table.append(row([quantity.label, [amount(quantity.unit, value, error), "number"]]));
  }
  const found = flagNames(record.flags);
  if (!found.length) table.append(row(["Flags", ["none", "number"]]));
  for (const flag of found) {
    table.append(row([[flag.fatal ? "Fatal flag" : "Warning", flag.fatal ? "fatal" : "warned"], `${flag.name}: ${flag.meaning}`]));
  }
  return record;
}
async function pin(y, x) {
  const record = await tell(y, x);
  pinned = [record.y, record.x];
  for (const slot of slots) {
    const at = place(...pinned);
    Plotly.restyle(slot.plot, { x: [[at[1]]], y: [[at[0]]] }, [2]);
  }
  await showCurve(...pinned);
}
function nearest(y, x) {
  let best = null, least = Infinity;
  for (const key of Object.keys(data.curves)) {
    const [v, u] = key.split(",").map(Number), distance = (v - y) ** 2 + (u - x) ** 2;
    if (distance < least) { least = distance; best = key; }
  }
  return best;
}
async function showCurve(y, x) {
  const note = document.getElementById("note");
  let curve = data.curves[`${y},${x}`];
  note.textContent = "";
  if (!curve && data.server) {
    const answer = await fetch(`curve?y=${y}&x=${x}`);
    if (answer.ok) curve = await answer.json();
    else note.textContent = await answer.text();
  }
  if (!curve && !data.server) {
    const key = nearest(y, x);
    if (key === null) note.textContent = "No curves are in this report; make it with --curves FILE.";
    else {
      curve = data.curves[key];
      const [v, u] = key.split(",");
      note.textContent = `This curve is not in the report; below the nearest that is, row ${v}, column ${u}.`;
    }
  }
  if (curve) drawCurve(curve);
}
function unpack(curve) {
  const found = {};
  for (const [name, value] of Object.entries(curve)) {
    found[name] = typeof value === "string" ? Array.from(new Float64Array(bytes(value))) : value;
  }
  return found;
}
function drawCurve(packed) {
  const curve = unpack(packed);
  const origin = curve.contact_point ?? 0;
  const reach = readable("m", Math.max(...curve.retract_z) - Math.min(...curve.retract_z));
  const force = readable("N", Math.max(...curve.retract_force.map(Math.abs).filter(isFinite)));
  const z = (values) => values.map((v) => (v - origin) * reach.factor);
  const f = (values, shift = 0) => values.map((v) => (v + shift) * force.factor);
  const small = readable("N", curve.noise ?? 1e-10);
  const band = curve.noise ?? 0;
  const traces = [
    { x: z(curve.approach_z), y: f(curve.approach_force), name: "approach", mode: "lines", line: { color: "#8fb8d8", width: 1.5 } },
    { x: z(curve.retract_z), y: f(curve.retract_force), name: "retract", mode: "lines+markers",
      line: { color: "#1f4e79", width: 0.7 }, marker: { size: 4 } }];
  if (curve.fit_z.length) {
    traces.push(
      { x: z(curve.fit_z), y: f(curve.fit_force, 2 * band), mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false },
      { x: z(curve.fit_z), y: f(curve.fit_force, -2 * band), mode: "lines", line: { width: 0 }, hoverinfo: "skip", fill: "tonexty",
        fillcolor: "rgba(213,94,0,0.22)", name: "fit ± 2 σ noise" },
      { x: z(curve.fit_z), y: f(curve.fit_force), name: "fit", mode: "lines", line: { color: "#d55e00", width: 2.2 } },
      { x: z(curve.residual_z), y: curve.residual.map((v) => v * small.factor), mode: "markers", yaxis: "y2", showlegend: false,
        marker: { size: 4, color: "#1f4e79" }, name: "residual" });
  }
  const seen = z([...curve.window]);
  const plain = { tickfont: FONT, zeroline: true, zerolinecolor: "#ccc", gridcolor: "#eee" };
  const shapes = [];
  if (curve.contact_point !== null) {
    shapes.push({ type: "line", x0: 0, x1: 0, y0: 0, y1: 1, yref: "paper", line: { color: "#222", width: 1, dash: "dash" } });
  }
  if (band) {
    for (const sigma of [2, 1]) {
      shapes.push({ type: "rect", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: -sigma * band * small.factor,
        y1: sigma * band * small.factor, fillcolor: "rgba(213,94,0,0.15)", line: { width: 0 }, layer: "below" });
    }
  }
  const reference = curve.contact_point === null ? "z" : "z − contact point";
  Plotly.react("curve", traces, { margin: { l: 54, r: 8, t: 8, b: 40 }, font: FONT, shapes, hovermode: "closest",
    legend: { x: 0.02, y: 0.99, bgcolor: "rgba(255,255,255,0.7)" },
    xaxis: { ...plain, range: seen, anchor: "y2", title: { text: `piezo extension ${reference} (${reach.unit})`, font: FONT } },
    yaxis: { ...plain, domain: [0.32, 1], title: { text: `force (${force.unit})`, font: FONT } },
    yaxis2: { ...plain, domain: [0, 0.24], title: { text: `residual (${small.unit})`, font: FONT } } }, CONFIG);
}
document.addEventListener("keydown", (event) => {
  const step = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  // with these keys an arrow is the browser's or the system's
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (!step || !pinned || event.target.tagName === "SELECT") return;
  event.preventDefault();
  const size = data.server ? 1 : grid.step;
  pin(Math.min(Math.max(pinned[0] + step[0] * size, 0), grid.ny - 1), Math.min(Math.max(pinned[1] + step[1] * size, 0), grid.nx - 1));
});

// ---- tables ---------------------------------------------------------------------------------------------------
function drawStatistics() {
  const table = document.getElementById("statistics"), names = [...new Set(data.statistics.map((one) => one.region))];
  table.append(row(["region", "quantity", "curves", "median", "spread", "noise", "mean", "best fit"], true));
  for (const one of data.statistics) {
    if (!one.count) continue;
    const shown = readable(one.unit, one.median), size = (v) => (v === null ? "" : number(v * shown.factor));
    const fit = one.fits[0];
    const told = !fit ? "" : fit.law === "gaussian" ? `Gaussian ${size(fit.centre)} ± ${size(fit.width)}`
      : `log-normal ${size(fit.centre)} ×÷ ${number(Math.exp(fit.width))}`;
    const line = row([one.region, `${byName[one.quantity]?.label ?? one.quantity}${shown.unit ? ` (${shown.unit})` : ""}`,
      ...[String(one.count), size(one.median), size(one.spread), size(one.noise), size(one.mean)].map((t) => [t, "number"]), told]);
    const swatch = element("span", "", "swatch");
    swatch.style.background = COLOURS[names.indexOf(one.region) % COLOURS.length];
    line.firstChild.prepend(swatch);
    table.append(line);
  }
  const shownNames = ["modulus", "adhesion", "deformation"].filter(
    (name) => data.statistics.some((one) => one.quantity === name && one.count));
  const boxes = shownNames.map(() => element("div", undefined, "plot"));
  document.getElementById("histograms").append(...boxes); // all of them first: each takes its width from the others
  for (const [at, name] of shownNames.entries()) {
    const own = data.statistics.filter((one) => one.quantity === name && one.count), box = boxes[at];
    const shown = readable(own[0].unit, byName[name].median);
    const traces = own.map((one) => {
      const edges = one.histogram.edges.map((v) => v * shown.factor), top = Math.max(...one.histogram.counts, 1);
      return { type: "scatter", mode: "lines", name: one.region, x: [edges[0], ...edges], fill: "tozeroy", line: { shape: "hv", width: 1,
        color: COLOURS[names.indexOf(one.region) % COLOURS.length] }, y: [0, ...one.histogram.counts.map((n) => n / top), 0] };
    });
    const log = byName[name].log && own.every((one) => one.histogram.edges[0] > 0);
    Plotly.newPlot(box, traces, { margin: { l: 40, r: 8, t: 8, b: 38 }, font: FONT, legend: { orientation: "h", y: 1.15 },
      xaxis: { type: log ? "log" : "linear", title: { text: `${byName[name].label}${shown.unit ? ` (${shown.unit})` : ""}`, font: FONT } },
      yaxis: { title: { text: "curves per bin ÷ most", font: FONT }, rangemode: "tozero" } }, CONFIG);
  }
}
function drawFlags() {
  const table = document.getElementById("flags");
  table.append(row(["flag", "curves", "share", "meaning"], true));
  for (const flag of data.flag_meanings) {
    if (!flag.count) continue;
    const share = `${number((100 * flag.count) / (grid.ny * grid.nx))} %`;
    table.append(row([[flag.name, flag.fatal ? "fatal" : "warned"], [String(flag.count), "number"], [share, "number"], flag.meaning]));
  }
}
document.getElementById("provenance").textContent = JSON.stringify(data.provenance, null, 1);
for (const name of data.first) addMap(name);
drawStatistics();
drawFlags();
if (data.pixel) pin(...data.pixel);
