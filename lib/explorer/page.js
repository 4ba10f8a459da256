// What panels share: elements, scales, axes. A panel is a function of an empty element and its data.
const PANELS = {};

function start(data) {
  const main = document.querySelector("main");
  for (const [name, content] of Object.entries(data)) {
    const section = make("section", { id: name }, main);
    PANELS[name](section, content);
  }
}

const SVG_ELEMENTS = new Set(["svg", "g", "path", "line", "circle", "rect", "text", "title"]);

// An element with attributes (`text` is its content), appended to `parent`. No text is ever read as HTML.
function make(kind, attributes = {}, parent = null) {
  const space = SVG_ELEMENTS.has(kind) ? "http://www.w3.org/2000/svg" : "http://www.w3.org/1999/xhtml";
  const element = document.createElementNS(space, kind);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  if (parent) parent.append(element);
  return element;
}

// A labelled list of choices; `names` are values, or pairs of value and text.
function choice(parent, label, names, value, changed) {
  const box = make("span", {}, parent), id = `choice-${document.querySelectorAll("select").length}`;
  make("label", { text: label + " ", for: id }, box);
  const select = make("select", { id }, box);
  for (const name of names) {
    const [own, text] = Array.isArray(name) ? name : [name, name];
    make("option", { value: own, text }, select);
  }
  select.value = value;
  select.addEventListener("change", changed);
  return select;
}

// Radio buttons in a labelled frame; `value()` is what is chosen.
function radios(parent, legend, names, changed) {
  const field = make("fieldset", {}, parent);
  make("legend", { text: legend }, field);
  const group = `radios-${legend.replace(/\W+/g, "-")}`;
  names.forEach(([own, text], number) => {
    const label = make("label", {}, field);
    const button = make("input", { type: "radio", name: group, value: own }, label);
    button.checked = number === 0;
    button.addEventListener("change", changed);
    label.append(" " + text);
  });
  return { value: () => field.querySelector("input:checked").value };
}

function slider(parent, label, { min, max, step, value }, changed) {
  const box = make("label", { text: label + " " }, parent);
  const input = make("input", { type: "range", min, max, step }, box);
  input.value = value;
  input.addEventListener("input", changed);
  return input;
}

// A straight scale from [from, to] to pixels [start, end].
const scale = (from, to, start, end) => (value) => start + ((value - from) / (to - from || 1)) * (end - start);

// About `count` round numbers in [from, to].
function ticks(from, to, count = 5) {
  const rough = (to - from || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let tick = Math.ceil(from / step); tick * step <= to + step * 1e-9; tick++) found.push(tick * step);
  return found;
}

const short = (value) => String(Number(value.toPrecision(3)));

// Axes with ticks and labels; `x` and `y` are {scale, ticks, label}, `box` is {left, right, top, bottom} in pixels.
function axes(svg, box, x, y) {
  for (const tick of y.ticks) {
    make("line", { class: "grid", x1: box.left, x2: box.right, y1: y.scale(tick), y2: y.scale(tick) }, svg);
    make("text", { x: box.left - 5, y: y.scale(tick) + 4, "text-anchor": "end", text: short(tick) }, svg);
  }
  for (const tick of x.ticks) {
    const text = x.text ? x.text(tick) : short(tick);
    make("line", { class: "axis", x1: x.scale(tick), x2: x.scale(tick), y1: box.bottom, y2: box.bottom + 4 }, svg);
    make("text", { x: x.scale(tick), y: box.bottom + 17, "text-anchor": "middle", text }, svg);
  }
  make("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }, svg);
  make("line", { class: "axis", x1: box.left, x2: box.left, y1: box.top, y2: box.bottom }, svg);
  make("text", { x: (box.left + box.right) / 2, y: box.bottom + 33, "text-anchor": "middle", text: x.label }, svg);
  make("text", { x: box.left, y: box.top - 7, text: y.label }, svg);
}

// Points [x, y] as the path of a line.
const line = (points) => points.map(([x, y], number) => `${number ? "L" : "M"}${x.toFixed(2)},${y.toFixed(2)}`).join("");
