// How scores are distributed at some steps of a training.
PANELS.steps = (root, data) => {
  make("h2", { text: "How do scores move apart during training?" }, root);
  const rankers = Object.keys(data);
  const bar = make("div", { class: "bar" }, root);
  const ranker = choice(bar, "Ranker", rankers, rankers[0], changed);
  const input = slider(bar, "Step", { min: 0, max: data[rankers[0]].shots.length - 1, step: 1, value: 0 }, draw);
  const shown = make("output", {}, bar);
  const row = make("div", { class: "row" }, root);
  const left = make("div", {}, row), right = make("div", {}, row);
  make("h3", { text: "Scores of the dev queries' candidates" }, left);
  const histogram = make("svg", { width: 500, height: 330, role: "img", "aria-label": "histograms of scores" }, left);
  make("h3", { text: "Mean margin of the training batches" }, right);
  const margins = make("svg", { width: 380, height: 330, role: "img", "aria-label": "mean margin by step" }, right);
  const words = make("p", { role: "status" }, root);
  make("p", { class: "note", text: "Filled: documents that are not relevant. Line: relevant ones. Each is a share of its own documents; the bins are the same at every step." }, root);

  function changed() {
    input.max = data[ranker.value].shots.length - 1;
    draw();
  }

  function draw() {
    const own = data[ranker.value], shot = own.shots[Number(input.value)];
    shown.textContent = `after step ${shot.step}`;
    input.setAttribute("aria-valuetext", shown.textContent);
    Object.assign(root.dataset, { ranker: ranker.value, step: shot.step });
    drawHistogram(own, shot);
    drawMargins(own, shot.step);
    words.textContent = `${ranker.value} after step ${shot.step}: mean score of relevant documents ${short(shot.positive)}, of others ${short(shot.negative)}; ` +
      `median margin ${short(shot.margin)}; ${(100 * shot.correct).toFixed(1)} % of pairs in the right order.`;
  }

  const shares = (counts) => {
    const total = counts.reduce((a, b) => a + b, 0) || 1;
    return counts.map((count) => count / total);
  };

  function drawHistogram(own, shot) {
    const box = { left: 45, right: 485, top: 24, bottom: 285 };
    const high = Math.max(...shares(shot.relevant), ...shares(shot.other));
    const x = scale(own.edges[0], own.edges.at(-1), box.left, box.right), y = scale(0, high, box.bottom, box.top);
    histogram.replaceChildren();
    axes(histogram, box, { scale: x, ticks: ticks(own.edges[0], own.edges.at(-1), 6), label: "raw score" }, { scale: y, ticks: ticks(0, high), label: "share of documents" });
    const outline = (counts) => shares(counts).flatMap((share, bin) => [[x(own.edges[bin]), y(share)], [x(own.edges[bin + 1]), y(share)]]);
    const closed = line([[box.left, y(0)], ...outline(shot.other), [box.right, y(0)]]);
    make("path", { class: "other", d: closed, fill: "#cccccc", stroke: "#767676" }, histogram);
    make("path", { class: "relevant", d: line(outline(shot.relevant)), fill: "none", stroke: own.colour, "stroke-width": 2.5 }, histogram);
  }

  function drawMargins(own, step) {
    const box = { left: 45, right: 365, top: 24, bottom: 285 };
    const low = Math.min(0, ...own.margins), high = Math.max(...own.margins, low + 1e-6);
    const last = own.margins.length;
    const x = scale(0, last, box.left, box.right), y = scale(low, high, box.bottom, box.top);
    margins.replaceChildren();
    axes(margins, box, { scale: x, ticks: ticks(0, last), label: `step (mean over ${own.window})` }, { scale: y, ticks: ticks(low, high), label: "positive minus negative score" });
    make("path", { d: line(own.margins.map((value, place) => [x(place + 1), y(value)])), fill: "none", stroke: own.colour, "stroke-width": 2 }, margins);
    make("line", { class: "cursor", x1: x(step), x2: x(step), y1: box.top, y2: box.bottom, stroke: "#111111", "stroke-width": 2, "stroke-dasharray": "4 3" }, margins);
  }

  draw();
};
