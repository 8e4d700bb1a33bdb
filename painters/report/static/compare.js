
// Two plans of one model, task by task. Everything is computed here, from the outcomes by document.

const FEW = 30; // documents under which intervals are rough
const FEW_APART = 10; // documents that tell two plans apart, under which a test can hardly find anything
const HEAD = ["Task", "Metric", "A", "B", "A − B", "", "95 % interval", "n", "Only A", "Only B", "p"];
const compare = { group: 0, sides: [], words: [], waiting: [] };

// Entries of a side: a plan under a kind of cache. The intact model has one cache whatever the other plans have.
function sidesOf(group) {
  const found = new Map();
  for (let row = 0; row < COUNT; row += 1) {
    if (settingOf(row).group !== group) continue;
    const kv = settingOf(row).kv;
    const key = `${ROWS.plan[row]} ${kv}`;
    if (!found.has(key)) found.set(key, { plan: planOf(row), kv, rows: [], variants: new Set() });
    found.get(key).rows.push(row);
    if (VARIANTS[row]) found.get(key).variants.add(VARIANTS[row]);
  }
  return [...found.values()].sort((a, b) => b.plan.intact - a.plan.intact || ordering.compare(a.plan.text, b.plan.text) || ordering.compare(a.kv, b.kv));
}

// The kind of cache comes first: a narrow list cuts off what comes last.
function sideName(side) {
  const about = side.plan.intact ? "intact" : [...side.variants][0];
  const cache = side.kv === "exact" ? "" : `${side.kv} cache: `;
  return about ? `${cache}${side.plan.text}  (${about})` : `${cache}${side.plan.text}`;
}

// The plans of a side that hold every word of its search field, or all of it; the chosen one stays in the list.
function fillSide(side, chosen) {
  const whole = get(`compare-${side}-text`).value.trim().toLowerCase();
  const words = whole.split(/\s+/).filter(Boolean);
  const places = [...compare.sides.keys()];
  const fitting = places.filter((place) => compare.words[place].includes(whole) || words.every((word) => compare.words[place].includes(word)));
  const listed = places.filter((place) => place === chosen || fitting.includes(place));
  get(`compare-${side}`).replaceChildren(...listed.map((place) => make("option", { text: sideName(compare.sides[place]), value: place })));
  get(`compare-${side}`).value = chosen;
  get(`compare-${side}-count`).textContent = whole ? `${fitting.length} of ${places.length}` : "";
  return fitting;
}

const chosenPlace = (side) => Number(get(`compare-${side}`).value);

function chooseSide(side, place) {
  get(`compare-${side}-text`).value = "";
  fillSide(side, place);
}

// The part of the address after its "#" that stands for the comparison that is shown.
function linkOfComparison() {
  const [a, b] = ["a", "b"].map((side) => compare.sides[chosenPlace(side)]);
  const named = new URLSearchParams({ model: GROUP_NAMES[compare.group], a: a.plan.text, b: b.plan.text });
  if (a.kv !== "exact") named.set("a-kv", a.kv);
  if (b.kv !== "exact") named.set("b-kv", b.kv);
  return `#compare?${named}`;
}

// Show the comparison and put it into the address, so that the address can be sent to others.
function showChoice() {
  showComparison();
  try {
    history.replaceState(null, "", linkOfComparison());
  } catch {
    // Some viewers forbid it; the link below the table is there all the same.
  }
}

// Show the comparison that the address names, if it names one.
function followLink() {
  if (!location.hash.startsWith("#compare?")) return;
  const named = new URLSearchParams(location.hash.slice("#compare?".length));
  const group = GROUP_NAMES.indexOf(named.get("model"));
  const sides = group < 0 ? [] : sidesOf(group);
  const places = ["a", "b"].map((side) =>
    sides.findIndex(({ plan, kv }) => plan.text === named.get(side) && kv === (named.get(`${side}-kv`) || "exact")));
  if (places.includes(-1)) {
    const lacks = group < 0 ? `the model ${named.get("model")}` : `the plan ${named.get(places[0] < 0 ? "a" : "b")}`;
    get("compare-status").textContent = `The address asks for ${lacks}, which this page has no records of.`;
  } else {
    chooseGroup(group);
    chooseSide("a", places[0]);
    chooseSide("b", places[1]);
    showComparison();
  }
  get("compare").scrollIntoView();
}

function setUpComparison() {
  options(get("compare-group"), GROUP_NAMES);
  get("compare-group-label").hidden = GROUP_NAMES.length < 2;
  get("compare-group").addEventListener("change", () => {
    chooseGroup(Number(get("compare-group").value));
    showChoice();
  });
  for (const side of ["a", "b"]) {
    get(`compare-${side}`).addEventListener("change", showChoice);
    get(`compare-${side}-text`).addEventListener("input", () => fillSide(side, chosenPlace(side)));
    get(`compare-${side}-text`).addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      const [first] = fillSide(side, chosenPlace(side));
      if (first === undefined) return;
      chooseSide(side, first);
      showChoice();
    });
  }
  get("compare-swap").addEventListener("click", () => {
    const [a, b] = [chosenPlace("a"), chosenPlace("b")];
    chooseSide("a", b);
    chooseSide("b", a);
    showChoice();
  });
  for (const kind of ["svg", "png"]) get(`compare-${kind}`).addEventListener("click", () => saveComparison(kind));
  addEventListener("hashchange", followLink);
  for (const one of document.querySelectorAll(".draws")) one.textContent = DRAWS.toLocaleString("en");
  for (const one of document.querySelectorAll(".seed")) one.textContent = SEED;
  const head = make("tr");
  HEAD.forEach((title, place) => head.append(make("th", { scope: "col", text: title, className: place === 1 ? "rest" : place > 1 && place !== 5 ? "number" : "", ...(title ? {} : { "aria-label": "Interval, drawn" }) })));
  get("compare-table").tHead.append(head);
  if (GROUP_NAMES.length) chooseGroup(Math.max(0, DATA.groups.findIndex(({ tuning }) => !tuning)));
  followLink();
}

function chooseGroup(group) {
  compare.group = group;
  compare.sides = sidesOf(group);
  get("compare-group").value = group;
  compare.words = compare.sides.map((side) => [sideName(side), ...side.variants, `kv ${side.kv}`].join("\n").toLowerCase());
  // At first: the best of the plans with the most records, against the intact model.
  const score = (side) => median(side.rows.filter((row) => settingOf(row).primary && !missing(ROWS.normalised[row])).map((row) => ROWS.normalised[row]));
  const others = compare.sides.filter(({ plan }) => !plan.intact)
    .sort((a, b) => b.rows.length - a.rows.length || compared(score(a), score(b), true));
  const intact = compare.sides.findIndex(({ plan }) => plan.intact);
  chooseSide("a", others.length ? compare.sides.indexOf(others[0]) : 0);
  chooseSide("b", Math.max(0, intact));
  showComparison();
}

function chooseForComparison(side, row) {
  if (settingOf(row).group !== compare.group) chooseGroup(settingOf(row).group);
  chooseSide(side, compare.sides.findIndex(({ plan, kv }) => plan === planOf(row) && kv === settingOf(row).kv));
  showChoice();
  get("compare").scrollIntoView();
  get(`compare-${side}`).focus({ preventScroll: true });
}

// Rows of both sides on the same prompts: [task, metric, row of A, row of B]. Of several, those scored last.
function paired(a, b) {
  const key = (row) => {
    const { task, metric, requests, shots, documents, seed } = settingOf(row);
    return JSON.stringify([task, metric, requests, shots, documents, seed]);
  };
  const latest = (rows) => {
    const found = new Map();
    for (const row of rows) {
      const other = found.get(key(row));
      if (other === undefined || DATES[row] >= DATES[other]) found.set(key(row), row);
    }
    return found;
  };
  const others = latest(b.rows);
  const found = [];
  for (const [name, row] of latest(a.rows)) if (others.has(name)) found.push([row, others.get(name)]);
  return found.sort(([one], [other]) => ordering.compare(settingOf(one).task, settingOf(other).task)
    || settingOf(other).primary - settingOf(one).primary || ordering.compare(settingOf(one).metric, settingOf(other).metric));
}

// All but the interval, which takes longer and is filled in later. `known` are the outcomes of both.
function statistics(a, b) {
  const { aggregation, documents } = settingOf(a);
  const [one, other] = [outcomes(a), outcomes(b)];
  const values = [ROWS.value[a], ROWS.value[b]];
  const difference = values.some(missing) ? null : values[0] - values[1];
  const known = one && other && one.length === other.length && (aggregation === "mean" || aggregation === "perplexity") ? [one, other] : null;
  return {
    a, b, difference, documents, known,
    error: known && pairedError(aggregation, one, other),
    test: known && aggregation === "mean" ? mcnemar(one, other) : null,
  };
}

function showComparison() {
  const [a, b] = ["a", "b"].map((side) => compare.sides[chosenPlace(side)]);
  get("compare-drawings").replaceChildren(...[["A", a], ["B", b]].map(([name, side]) =>
    make("div", { className: "card" }, make("h3", { text: `${name}: ` }, make("code", { text: side.plan.text })), drawing(side.plan),
      make("p", { text: [cost(side.plan), [...side.variants].join("; "), `kv ${side.kv}`].filter(Boolean).join(" · ") }))));
  const pairs = paired(a, b).map(([one, other]) => statistics(one, other));
  // Shares have one scale, so that intervals of different tasks can be compared by eye.
  const far = ({ difference, error }) => Math.abs(difference) + 2.5 * (error || 0);
  const reach = Math.max(0.01, ...pairs.filter(({ a: row, known }) => known && settingOf(row).share).map(far));
  const filling = pairs.map((pair) => {
    const cells = comparisonRow(pair);
    return { ...pair, ...cells, reach: settingOf(pair.a).share ? reach : Math.max(1e-9, far(pair)) };
  });
  get("compare-table").tBodies[0].replaceChildren(...filling.map(({ line }) => line));
  compare.waiting = filling.filter(({ known }) => known);
  fillIn(compare.waiting);
  const tasks = new Set(pairs.map(({ a: row }) => settingOf(row).task)).size;
  get("compare-status").textContent = pairs.length
    ? `${pairs.length} ${pairs.length === 1 ? "metric" : "metrics"} of ${tasks} ${tasks === 1 ? "task" : "tasks"}, on the same documents and prompts.`
    : "These two plans were never scored on the same documents and prompts: choose others.";
  get("compare-link").href = linkOfComparison();
  get("compare-notes").replaceChildren(...notes(a, b, pairs).map((text) => make("li", { text })));
}

function comparisonRow({ a, b, difference, documents, error, test, known }) {
  const { task, metric, share } = settingOf(a);
  const number = (text) => make("td", { className: "number", text });
  const apart = number("");
  apart.append(make("span", { text: written(difference, share, true) }));
  if (!missing(error)) apart.append(make("span", { className: "error", text: ` ± ${written(error, share)}` }));
  const drawn = make("td");
  const ends = number(known ? "…" : "–");
  const line = make("tr", {},
    make("td", { text: task }, make("span", { className: "under", text: metric })), make("td", { className: "rest", text: metric }),
    number(written(ROWS.value[a], share)), number(written(ROWS.value[b], share)), apart, drawn, ends,
    number(String(documents)), number(test ? String(test.first) : "–"), number(test ? String(test.second) : "–"),
    number(test ? (test.p < 0.0001 ? "< 0.0001" : test.p.toFixed(4)) : "–"));
  return { line, apart, drawn, ends };
}

// The intervals, a few at a time, so that the page stays usable; those of an earlier choice are given up.
function fillIn(waiting) {
  const began = performance.now();
  while (waiting === compare.waiting && waiting.length && performance.now() - began < 50) {
    const { a, difference, known, apart, drawn, ends, reach } = waiting.shift();
    const { aggregation, share, higher } = settingOf(a);
    const interval = pairedInterval(aggregation, ...known);
    if (!interval) {
      ends.textContent = "–";
      continue;
    }
    if (interval[0] > 0 || interval[1] < 0) apart.firstChild.className = (difference > 0) === higher ? "good" : "bad";
    drawn.append(picture(difference, interval, reach));
    ends.textContent = `${written(interval[0], share, true)} to ${written(interval[1], share, true)}`;
  }
  if (waiting === compare.waiting && waiting.length) setTimeout(() => fillIn(waiting));
}

// The interval around the difference, and where zero is.
function picture(difference, [low, high], reach) {
  const x = (value) => 100 + 92 * Math.max(-1, Math.min(1, value / reach));
  const svg = drawn("svg", { viewBox: "0 0 200 24", class: "interval", "aria-hidden": "true" });
  const add = (tag, attributes) => svg.append(drawn(tag, attributes));
  add("line", { x1: 100, x2: 100, y1: 1, y2: 23, stroke: "currentColor", "stroke-opacity": 0.5, "stroke-dasharray": "2 2" });
  add("line", { x1: x(low), x2: x(high), y1: 12, y2: 12, stroke: "currentColor", "stroke-width": 2.5, "stroke-linecap": "round" });
  add("circle", { cx: x(difference), cy: 12, r: 5, fill: "currentColor" });
  return svg;
}

function notes(a, b, pairs) {
  const found = [];
  const name = ({ a: row }) => `${settingOf(row).task} ${settingOf(row).metric}`;
  const named = (some) => (some.length > 4 ? `${some.length} of the ${pairs.length} metrics` : some.map(name).join(", "));
  if (a === b) found.push("A and B are the same plan: every difference is zero.");
  const few = pairs.filter(({ documents }) => documents < FEW);
  if (few.length) found.push(`Too few documents: under ${FEW} on ${named(few)}. Standard errors, intervals and tests of so few say little; do not conclude from them.`);
  const alike = a === b ? [] : pairs.filter(({ test, documents }) => test && documents >= FEW && test.first + test.second < FEW_APART);
  if (alike.length) found.push(`Few documents tell the plans apart: under ${FEW_APART} on ${named(alike)}. The interval is rough there, and the test can hardly find a difference.`);
  const odd = pairs.filter((pair) => ROWS.not_finite[pair.a] || ROWS.not_finite[pair.b]);
  if (odd.length) found.push(`No score: ${named(odd)}. Answers were not finite (NaN or infinite), ${odd.map(({ a: one, b: other }) => `${ROWS.not_finite[one]} of A, ${ROWS.not_finite[other]} of B`).join("; ")}.`);
  const unpaired = pairs.filter((pair) => !pair.known && !odd.includes(pair));
  if (unpaired.length) found.push(`Not paired: ${named(unpaired)}. No mean over documents, or no outcomes of documents in the records or on this page; the bare difference is shown.`);
  for (const fact of ["device", "attention", "batch_size", "batching", "versions", "task_version"]) {
    const differing = pairs.filter((pair) => JSON.stringify(settingOf(pair.a)[fact]) !== JSON.stringify(settingOf(pair.b)[fact]));
    if (differing.length) found.push(`A and B differ in ${fact.replace("_", " ")} too, on ${named(differing)}.`);
  }
  const only = new Set([...a.rows, ...b.rows].map((row) => settingOf(row).task));
  for (const { a: row } of pairs) only.delete(settingOf(row).task);
  if (only.size && pairs.length) found.push(`Not on the same documents and prompts for both, so not compared: ${[...only].sort(ordering.compare).join(", ")}.`);
  return found;
}
