// Value, gradient and descent of every loss at scores that are moved by hand.
PANELS.losses = (root, data) => {
  const { names, lists } = groupOf(data);
  const rows = {};
  let chosen = Object.keys(data.losses)[0], pending = null;

  make("h2", { text: "What does each loss want of four scores?" }, root);
  make("p", { class: "note", text: "Drag a score, or give it the focus and use the arrow keys. The label says that the first document is relevant and the others are not. A bar to the right: the loss wants a higher score (minus the gradient)." }, root);
  const top = make("div", { class: "row" }, root);
  const left = make("div", {}, top);
  groupEditor(left, { names, lists, count: () => names.length, changed: update });
  const right = make("div", {}, top);
  const heading = make("h3", { "aria-live": "polite" }, right);
  const plot = make("svg", { width: 480, height: 270, role: "img", "aria-label": "descent of the chosen loss" }, right);
  const ends = make("p", {}, right);
  const table = make("table", {}, root);
  fillTable();

  const targetsOf = (name) => (data.losses[name].targets === "labels" ? data.labels : lists.teacher);

  function fillTable() {
    make("caption", { class: "note", text: "Every loss with its defaults, here and after 1,000 steps of Adam on the scores themselves" }, table);
    const head = make("thead", {}, table);
    const above = make("tr", {}, head), below = make("tr", {}, head);
    make("td", { colspan: 3 }, above);
    make("th", { colspan: names.length + 1, scope: "colgroup", class: "over", text: "push on each score (minus the gradient)" }, above);
    make("td", {}, above);
    for (const text of ["loss", "targets", "value", ...names, "all", "after the descent"]) make("th", { scope: "col", text }, below);
    const body = make("tbody", {}, table);
    for (const name of Object.keys(data.losses)) {
      const row = make("tr", { "data-loss": name }, body);
      const label = make("label", {}, make("td", {}, row));
      const radio = make("input", { type: "radio", name: "loss", value: name }, label);
      radio.checked = name === chosen;
      radio.addEventListener("change", () => { chosen = name; update(); });
      label.append(" " + name);
      make("td", { text: data.losses[name].targets }, row);
      const cells = ["value", ...names].map(() => make("td", {}, row));
      const svg = make("svg", { width: 90, height: 20, "aria-hidden": true }, make("td", {}, row));
      rows[name] = { row, cells, svg, end: make("td", { class: "end" }, row) };
    }
  }

  function update() {
    for (const name of Object.keys(data.losses)) {
      const { row, cells, svg } = rows[name];
      const { value, gradient } = differentiate(LOSSES[name], lists.student, targetsOf(name));
      row.className = name === chosen ? "chosen" : "";
      row.dataset.value = value;
      row.dataset.gradient = JSON.stringify(gradient);
      [value, ...gradient.map((one) => -one)].forEach((one, place) => { cells[place].textContent = tidy(one); });
      sparkline(svg, gradient.map((one) => -one));
    }
    draw();
    clearTimeout(pending);
    root.dataset.ready = "false";
    pending = setTimeout(descents, 60); // all of them take longer than a frame
  }

  function descents() {
    for (const name of Object.keys(data.losses)) {
      const end = descend(LOSSES[name], lists.student, targetsOf(name)).at(-1);
      rows[name].row.dataset.end = JSON.stringify(end);
      rows[name].end.textContent = end.map((one) => one.toFixed(2)).join("  ");
    }
    root.dataset.ready = "true";
  }

  function sparkline(svg, values) {
    svg.replaceChildren();
    const largest = Math.max(1e-9, ...values.map(Math.abs));
    values.forEach((value, place) => {
      const size = (44 * value) / largest;
      make("rect", { x: size < 0 ? 45 + size : 45, y: place * 5, width: Math.abs(size), height: 4, fill: place ? "#767676" : "#111111" }, svg);
    });
    make("line", { class: "axis", x1: 45, x2: 45, y1: 0, y2: 20 }, svg);
  }

  function draw() {
    const path = descend(LOSSES[chosen], lists.student, targetsOf(chosen));
    const box = { left: 45, right: 385, top: 24, bottom: 225 };
    const all = path.flat();
    const [low, high] = [Math.min(...all, -1), Math.max(...all, 1)];
    const x = scale(0, 1000, box.left, box.right), y = scale(low, high, box.bottom, box.top);
    const dashes = ["", "7 3", "2 3", "8 3 2 3"], colours = ["#111111", "#1b7f79", "#a63603", "#6a51a3"];
    plot.replaceChildren();
    axes(plot, box, { scale: x, ticks: ticks(0, 1000), label: "step of Adam on the scores" }, { scale: y, ticks: ticks(low, high), label: "score" });
    heading.textContent = `Descent of ${chosen}`;
    const labels = path.at(-1).map((value, place) => ({ place, at: y(value) })).sort((one, other) => one.at - other.at);
    labels.forEach((one, number) => { if (number) one.at = Math.max(one.at, labels[number - 1].at + 13); });
    names.forEach((name, place) => {
      const points = path.filter((_, step) => step % 10 === 0).map((scores, step) => [x(step * 10), y(scores[place])]);
      make("path", { d: line(points), fill: "none", stroke: colours[place], "stroke-width": place ? 2 : 3, "stroke-dasharray": dashes[place] }, plot);
      make("text", { x: box.right + 6, y: labels.find((one) => one.place === place).at + 4, text: name, style: `fill: ${colours[place]}` }, plot);
    });
    ends.textContent = "After 1,000 steps: " + path.at(-1).map((one, place) => `${names[place]} ${one.toFixed(2)}`).join(", ");
  }

  const tidy = (value) => (Math.abs(value) < 5e-5 ? "0" : value.toFixed(3));
  update();
};
