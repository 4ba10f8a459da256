// A group of documents whose scores are moved with the pointer or the arrow keys: the student's and the teacher's.
function groupEditor(root, { names, lists, count, changed }) {
  const LOW = -6, HIGH = 6, WIDTH = 380, HEIGHT = 300;
  const box = { left: 40, right: WIDTH - 10, top: 24, bottom: HEIGHT - 40 };
  const y = scale(LOW, HIGH, box.bottom, box.top);
  const svg = make("svg", { width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group",
    "aria-label": "scores of a group; arrow keys change the one that has the focus" }, root);
  const back = make("g", {}, svg);
  const front = make("g", {}, svg);
  const handles = [];

  function set(list, place, value) {
    lists[list][place] = Math.round(Math.min(HIGH, Math.max(LOW, value)) * 20) / 20;
    move(list, place);
    changed();
  }

  function move(list, place) {
    const value = lists[list][place];
    const handle = handles.find((one) => one.list === list && one.place === place);
    handle.element.setAttribute("transform", `translate(${handle.x},${y(value)})`);
    handle.element.setAttribute("aria-valuenow", value);
    handle.element.setAttribute("aria-valuetext", value.toFixed(2));
  }

  function draw() {
    back.replaceChildren();
    front.replaceChildren();
    handles.length = 0;
    const shown = names.slice(0, count());
    const x = scale(-0.5, shown.length - 0.5, box.left, box.right);
    axes(back, box, { scale: x, ticks: shown.map((_, place) => place), text: (place) => shown[place], label: "document" },
      { scale: y, ticks: ticks(LOW, HIGH, 6), label: "score: ● the student's, □ the teacher's" });
    for (const [list, shift] of [["student", -12], ["teacher", 12]]) {
      shown.forEach((name, place) => {
        const about = { class: `handle ${list}`, role: "slider", tabindex: 0, "aria-orientation": "vertical",
          "aria-label": `${list}'s score of ${name}`, "aria-valuemin": LOW, "aria-valuemax": HIGH,
          "data-list": list, "data-place": place };
        const shape = list === "student" ? ["circle", { r: 9 }] : ["rect", { x: -8, y: -8, width: 16, height: 16 }];
        const element = make(shape[0], { ...about, ...shape[1] }, front);
        handles.push({ list, place, element, x: x(place) + shift });
        listen(element, list, place);
        move(list, place);
      });
    }
  }

  function listen(element, list, place) {
    const value = (event) => {
      const frame = svg.getBoundingClientRect();
      return LOW + ((box.bottom - ((event.clientY - frame.top) * HEIGHT) / frame.height) / (box.bottom - box.top)) * (HIGH - LOW);
    };
    element.addEventListener("pointerdown", (event) => { element.setPointerCapture(event.pointerId); event.preventDefault(); element.focus(); });
    element.addEventListener("pointermove", (event) => { if (element.hasPointerCapture(event.pointerId)) set(list, place, value(event)); });
    const keys = { ArrowUp: 0.1, ArrowRight: 0.1, ArrowDown: -0.1, ArrowLeft: -0.1, PageUp: 1, PageDown: -1, Home: -99, End: 99 };
    element.addEventListener("keydown", (event) => {
      if (!(event.key in keys)) return;
      event.preventDefault();
      set(list, place, lists[list][place] + keys[event.key]);
    });
  }

  draw();
  return { draw };
}

// The names of a group's documents, and copies of its scores.
function groupOf(data) {
  const names = data.scores.map((_, place) => (place ? `negative ${place}` : "positive"));
  return { names, lists: { student: [...data.scores], teacher: [...data.teacher] } };
}

// Horizontal bars around zero, one row per document and one bar per named list of values.
function bars(svg, { names, series, width = 380, left = 80, bar = 9 }) {
  svg.replaceChildren();
  const block = bar * series.length + 8, top = 6;
  const largest = Math.max(1e-9, ...series.flatMap((one) => one.values.map(Math.abs)));
  const x = scale(-largest, largest, left, width - 60);
  names.forEach((name, row) => {
    make("text", { x: left - 6, y: top + row * block + block / 2 + 2, "text-anchor": "end", text: name }, svg);
    series.forEach((one, number) => {
      const value = one.values[row], y = top + row * block + number * bar;
      make("rect", { x: Math.min(x(0), x(value)), y, width: Math.max(0.5, Math.abs(x(value) - x(0))), height: bar - 2,
        fill: one.fill, stroke: one.stroke, "stroke-width": 1.5 }, svg);
      make("text", { x: width - 55, y: y + bar - 1, style: "font-size: 10px", text: value.toFixed(4) }, svg);
    });
  });
  const bottom = top + names.length * block;
  make("line", { class: "axis", x1: x(0), x2: x(0), y1: 0, y2: bottom }, svg);
  svg.setAttribute("width", width);
  svg.setAttribute("height", bottom + 4);
}
