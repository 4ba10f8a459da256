// From KL to the mean squared difference of centred scores, as the temperature grows.
PANELS.temperature = (root, data) => {
  const { names, lists } = groupOf(data);
  make("h2", { text: "How does KL become a loss on margins?" }, root);
  make("p", { class: "note", text: "With d the student's score minus the teacher's and G documents, T² KL tends to half the mean squared difference of centred scores, which is the sum of (d_i - d_j)² over all pairs, divided by 2 G². Margin-MSE has the pairs with the positive alone: for two documents the limit is Margin-MSE / 8; for more, the pairs of two negatives come on top." }, root);
  const bar = make("div", { class: "bar" }, root);
  const size = radios(bar, "Documents", [[String(names.length), `all ${names.length}`], ["2", "two"]], () => { editor.draw(); update(); });
  const input = slider(bar, "Temperature", { min: -1, max: 3, step: 0.02, value: 0 }, update);
  const shown = make("output", {}, bar);
  const count = () => Number(size.value());
  const row = make("div", { class: "row" }, root);
  const editor = groupEditor(make("div", {}, row), { names, lists, count, changed: update });
  const right = make("div", {}, row);
  make("h3", { text: "Value by temperature" }, right);
  const plot = make("svg", { width: 460, height: 250, role: "img", "aria-label": "T² KL by temperature, and its limit" }, right);
  const last = make("div", {}, row);
  make("h3", { text: "Push on each score (minus the gradient)" }, last);
  const pushes = make("svg", { role: "img", "aria-label": "pushes of T² KL, of its limit, and of Margin-MSE" }, last);
  make("p", { class: "note", text: "From above in each block: T² KL (dark), its limit (white), Margin-MSE times (G - 1) / 2G² (grey)." }, last);
  const words = make("p", { role: "status" }, root);

  // Half the mean squared difference of centred scores.
  const limit = (scores, targets) => {
    const gaps = scores.map((one, place) => one.minus(targets[place]));
    const center = mean(gaps);
    return mean(gaps.map((one) => one.minus(center).square())).over(2);
  };

  const cosine = (one, other) => {
    const dot = (a, b) => a.reduce((total, value, place) => total + value * b[place], 0);
    return dot(one, other) / Math.sqrt(dot(one, one) * dot(other, other));
  };

  function update() {
    const temperature = 10 ** Number(input.value), docs = count();
    const [student, teacher] = [lists.student.slice(0, docs), lists.teacher.slice(0, docs)];
    const factor = (docs - 1) / (2 * docs ** 2);
    const at = (T) => differentiate((s, t) => kl(s, t, T), student, teacher);
    const now = at(temperature), end = differentiate(limit, student, teacher);
    const margins = differentiate((s, t) => LOSSES.margin_mse(s, t).times(factor), student, teacher);
    shown.textContent = `T = ${short(temperature)}`;
    input.setAttribute("aria-valuetext", shown.textContent);
    Object.assign(root.dataset, {
      temperature, docs, value: now.value, gradient: JSON.stringify(now.gradient), limit: end.value,
      limitGradient: JSON.stringify(end.gradient), margins: margins.value,
    });
    draw(at, temperature, now.value, end.value, margins.value);
    const push = (one) => one.gradient.map((value) => -value);
    bars(pushes, { names: names.slice(0, docs), series: [
      { values: push(now), fill: "#08306b", stroke: "#08306b" }, { values: push(end), fill: "white", stroke: "#111111" },
      { values: push(margins), fill: "#767676", stroke: "#767676" },
    ] });
    const alike = (other) => { const value = cosine(now.gradient, other.gradient); return Number.isFinite(value) ? value.toFixed(3) : "undefined"; };
    words.textContent = `At T = ${short(temperature)}: T² KL ${short(now.value)}, its limit ${short(end.value)}, ` +
      `Margin-MSE times ${short(factor)} is ${short(margins.value)}. Cosine of the gradient with the limit's ${alike(end)}, with Margin-MSE's ${alike(margins)}.`;
  }

  function draw(at, temperature, now, end, margins) {
    const box = { left: 45, right: 330, top: 24, bottom: 205 };
    const curve = [];
    for (let power = -1; power <= 3.001; power += 0.05) curve.push([power, at(10 ** power).value]);
    const high = Math.max(1e-6, end, margins, ...curve.map((one) => one[1])) * 1.08;
    const x = scale(-1, 3, box.left, box.right), y = scale(0, high, box.bottom, box.top);
    plot.replaceChildren();
    axes(plot, box, { scale: x, ticks: [-1, 0, 1, 2, 3], text: (power) => short(10 ** power), label: "temperature T (log)" }, { scale: y, ticks: ticks(0, high), label: "loss" });
    const level = (value, dash, colour) => make("line", { x1: box.left, x2: box.right, y1: y(value), y2: y(value), stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }, plot);
    level(end, "7 3", "#111111");
    level(margins, "2 3", "#767676");
    make("path", { d: line(curve.map(([power, value]) => [x(power), y(value)])), fill: "none", stroke: "#08306b", "stroke-width": 2.5 }, plot);
    make("circle", { cx: x(Math.log10(temperature)), cy: y(now), r: 6, fill: "#08306b" }, plot);
    const apart = Math.abs(y(end) - y(margins)) < 14 ? 14 : 0;
    make("text", { x: box.right + 5, y: y(end) + 4, text: "limit" }, plot);
    make("text", { x: box.right + 5, y: y(margins) + 4 + apart, text: "Margin-MSE share" }, plot);
  }

  update();
};
