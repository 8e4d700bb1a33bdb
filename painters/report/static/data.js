
// The records, as the page was given them. Rows are numbered from 0; a column is a list with an entry for each.

const DATA = JSON.parse(document.getElementById("data").textContent);
const ROWS = DATA.rows;
const COUNT = (ROWS.plan || []).length;

function column(name) {
  const found = ROWS[name];
  if (!found || Array.isArray(found)) return found || [];
  return found.numbers.map((number) => found.texts[number]);
}

const VARIANTS = column("variant");
const DATES = column("date");
const planOf = (row) => DATA.plans[ROWS.plan[row]];
const settingOf = (row) => DATA.settings[ROWS.setting[row]];
const groupOf = (row) => DATA.groups[settingOf(row).group];

function groupName(group) {
  const tuned = group.tuning ? ` (${group.tuning.protocol})` : "";
  const twins = DATA.groups.filter((other) => other.model === group.model && (other.tuning || {}).protocol === (group.tuning || {}).protocol);
  const apart = twins.length > 1 ? `, ${group.dtype}, ${group.revision || `weights ${group.weights}`}` : "";
  return `${group.model}${tuned}${apart}`;
}

const GROUP_NAMES = DATA.groups.map(groupName);

// The outcomes of a row by document, or null.
const unpacked = new Map();
function outcomes(row) {
  const number = ROWS.outcomes[row];
  if (number === null) return null;
  if (!unpacked.has(number)) {
    const [count, packed] = DATA.outcomes[number];
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const values = new Float64Array(Math.abs(count));
    const view = new DataView(bytes.buffer);
    for (let place = 0; place < values.length; place += 1) {
      values[place] = count < 0 ? view.getFloat32(4 * place, true) : (bytes[place >> 3] >> (7 - (place & 7))) & 1;
    }
    unpacked.set(number, values);
  }
  return unpacked.get(number);
}

// Numbers as people read them; a missing one is a dash.
const missing = (value) => value === null || value === undefined;

function digits(value, share) {
  return share ? 1 : Math.abs(value) >= 100 ? 1 : 3;
}

function written(value, share, signed = false) {
  if (missing(value)) return "–";
  const text = (share ? 100 * Math.abs(value) : Math.abs(value)).toFixed(digits(value, share));
  const zero = Number(text) === 0;
  const sign = value < 0 && !zero ? "−" : signed && !zero ? "+" : "";
  return sign + text;
}

// On the scale where 0 is chance and 1 the intact model.
function scaled(value) {
  return missing(value) ? "–" : value.toFixed(2).replace(/^-(?=0\.00$)/, "").replace("-", "−");
}

// An element with classes, text and children; text is never markup.
function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  const { text, className, ...attributes } = options;
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const get = (id) => document.getElementById(id);

// A plan's drawing, with a line that says so where a part is out of sight. It was made by painters from numbers alone, so it may be markup.
function drawing(plan) {
  const box = make("div", { className: "drawing" });
  if (plan.svg) {
    box.innerHTML = plan.svg;
    const svg = box.firstChild;
    if (Number(svg.getAttribute("width")) < 480) svg.classList.add("small-plan");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Drawing of ${plan.text}`);
  } else {
    box.append(make("p", { text: missing(plan.runs) ? "Not drawn: painters cannot read this plan." : "Not drawn: too many plans." }));
  }
  return make("div", { className: "drawn" }, box, hintOf(box));
}

function cost(plan) {
  return missing(plan.runs) ? "" : `${plan.runs} layer runs, depth ${plan.depth}, ${plan.distinct} of ${plan.layers} layers`;
}

const ordering = new Intl.Collator("en", { numeric: true });

// a before b; what is missing comes last either way.
function compared(a, b, down) {
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "number" ? a - b : ordering.compare(a, b);
  return down ? -order : order;
}

function options(select, names) {
  select.replaceChildren(...names.map((name, number) => make("option", { text: name, value: number })));
}
