// A query's candidates under two rankers, side by side, with the moves between their ranks.
PANELS.documents = (root, data) => {
  const ROW = 26, WIDTH = 110;
  const state = { query: null, document: null };

  make("h2", { text: "Which documents move from one ranker to the other?" }, root);
  const bar = make("div", { class: "bar" }, root);
  const first = choice(bar, "A", data.rankers, data.rankers[0], list);
  const second = choice(bar, "B", data.rankers, data.rankers.at(-1), list);
  const filter = radios(bar, "Queries", [
    ["all", "all"], ["differ", "where they differ most"], ["a", "only A right"], ["b", "only B right"],
  ], list);
  const searchBox = make("label", { text: "Search " }, bar);
  const search = make("input", { type: "search", placeholder: "in queries and documents" }, searchBox);
  search.addEventListener("input", list);
  make("p", { class: "note", text: "A ranker is right where the first document is relevant. Queries differ most where the ranks of A and B, summed over documents, do. RR: reciprocal rank of the first relevant document." }, root);
  const found = make("p", { role: "status", class: "found" }, root);
  const queries = make("select", { size: 7, class: "queries", "aria-label": "queries" }, root);
  queries.addEventListener("change", () => { state.query = Number(queries.value); state.document = null; draw(); });
  const heading = make("h3", { class: "query" }, root);
  const ranks = make("div", { class: "ranks" }, root);
  const detail = make("div", { class: "detail", role: "status" }, root);

  const relevant = (query, place) => query.grades[place] >= data.relevant;
  const distance = (query) => query.ranks[first.value].reduce(
    (sum, rank, place) => sum + Math.abs(rank - query.ranks[second.value][place]), 0);

  function reciprocal(query, ranker) {
    const own = query.ranks[ranker].filter((_, place) => relevant(query, place));
    return own.length ? 1 / Math.min(...own) : 0;
  }

  function list() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (query) => [query.text, ...query.documents.map((one) => data.documents[one].id + " " + data.documents[one].text)]
      .join(" ").toLowerCase();
    let shown = data.queries.map((query, number) => ({
      query, number, moved: distance(query), a: reciprocal(query, first.value), b: reciprocal(query, second.value),
    }));
    const kind = filter.value();
    if (kind === "a") shown = shown.filter((one) => one.a === 1 && one.b < 1);
    if (kind === "b") shown = shown.filter((one) => one.b === 1 && one.a < 1);
    shown = shown.filter((one) => words.every((word) => text(one.query).includes(word)));
    if (kind === "differ") shown.sort((one, other) => other.moved - one.moved || one.number - other.number);
    found.textContent = `${shown.length} of ${data.queries.length} queries`;
    queries.replaceChildren();
    for (const one of shown) {
      const about = `RR ${one.a.toFixed(2)} / ${one.b.toFixed(2)}  moved ${String(one.moved).padStart(3)}  `;
      make("option", { value: one.number, text: about.replaceAll(" ", "\u00a0") + one.query.text }, queries); // columns
    }
    if (!shown.some((one) => one.number === state.query)) {
      state.query = shown.length ? shown[0].number : null;
      state.document = null;
    }
    if (state.query !== null) queries.value = state.query;
    draw();
  }

  function draw() {
    ranks.replaceChildren();
    detail.replaceChildren();
    if (state.query === null) {
      heading.textContent = "No query";
      return;
    }
    const query = data.queries[state.query];
    heading.textContent = `Query: ${query.text}`;
    if (!query.grades.some((_, place) => relevant(query, place))) heading.textContent += " (no candidate is relevant)";
    column(query, first.value, second.value, "A", false);
    moves(query);
    column(query, second.value, first.value, "B", true);
    describe(query);
  }

  // One ranker's documents from the first to the last; on the right side with the move from the left one.
  function column(query, own, other, letter, showsMove) {
    const box = make("div", {}, ranks);
    make("h3", { text: `${letter}: ${own}, RR ${reciprocal(query, own).toFixed(2)}` }, box);
    const items = make("ol", { "aria-label": `documents as ${own} ranks them` }, box);
    const order = query.documents.map((_, place) => place).sort((a, b) => query.ranks[own][a] - query.ranks[own][b]);
    for (const place of order) {
      const one = data.documents[query.documents[place]];
      const button = make("button", {
        type: "button", "data-place": place, class: relevant(query, place) ? "relevant" : "",
        "aria-pressed": String(state.document === place),
      }, make("li", {}, items));
      make("span", { class: "rank", text: query.ranks[own][place] }, button);
      make("span", { class: "text", text: one.id + ": " + one.text }, button);
      make("span", { class: "grade", text: relevant(query, place) ? `● grade ${query.grades[place]}` : "" }, button);
      make("span", { class: "score", text: query.scores[own][place].toFixed(2) }, button);
      if (showsMove) {
        const up = query.ranks[other][place] - query.ranks[own][place];
        const kind = up > 0 ? "up" : up < 0 ? "down" : "";
        make("span", { class: `move ${kind}`, text: up > 0 ? `▲${up}` : up < 0 ? `▼${-up}` : "=" }, button);
      }
      button.addEventListener("click", () => choose(place, letter));
    }
  }

  function choose(place, letter) {
    state.document = state.document === place ? null : place;
    draw();
    const side = letter === "A" ? ranks.firstChild : ranks.lastChild;
    side.querySelector(`button[data-place="${place}"]`).focus();
  }

  function moves(query) {
    const box = make("div", {}, ranks);
    make("h3", { text: "moves", style: "text-align: center" }, box);
    const height = ROW * query.documents.length;
    const svg = make("svg", { width: WIDTH, height, role: "img", "aria-label": "moves between the ranks of A and of B" }, box);
    query.documents.forEach((_, place) => {
      const [from, to] = [first.value, second.value].map((ranker) => (query.ranks[ranker][place] - 0.5) * ROW);
      const kind = [to < from ? "up" : to > from ? "down" : "", relevant(query, place) ? "relevant" : "",
        state.document === place ? "chosen" : ""].join(" ");
      const bend = `M0,${from} C${WIDTH / 2},${from} ${WIDTH / 2},${to} ${WIDTH},${to}`;
      make("path", { class: `move ${kind}`, d: bend, "data-place": place }, svg);
    });
  }

  function describe(query) {
    if (state.document === null) {
      make("p", { class: "note", text: "Choose a document to read it. ● and a thick frame: relevant. ▲ and a solid line: B ranks it higher than A; ▼ and a dashed line: lower." }, detail);
      return;
    }
    const place = state.document, one = data.documents[query.documents[place]];
    make("h3", { text: `${one.id}, grade ${query.grades[place]}` }, detail);
    const of = (ranker) => `${ranker}: rank ${query.ranks[ranker][place]}, score ${short(query.scores[ranker][place])}`;
    make("p", { text: `${of(first.value)}; ${of(second.value)}` }, detail);
    make("p", { text: one.text }, detail);
  }

  list();
};
