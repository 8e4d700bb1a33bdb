
// The table of records: only the rows of one page are in the document, so thousands stay quick.

const shown = (row) => settingOf(row).share;
const COLUMNS = [
  { name: "plan", title: "Plan", value: (row) => planOf(row).text },
  { name: "variant", title: "Variant", value: (row) => VARIANTS[row], rest: true },
  { name: "model", title: "Model", value: (row) => GROUP_NAMES[settingOf(row).group], rest: true },
  { name: "kv", title: "kv", value: (row) => settingOf(row).kv, rest: true },
  { name: "task", title: "Task", value: (row) => settingOf(row).task, under: (row) => settingOf(row).metric },
  { name: "metric", title: "Metric", value: (row) => settingOf(row).metric, rest: true },
  { name: "value", title: "Score", value: (row) => ROWS.value[row], error: "stderr", number: true },
  { name: "difference", title: "Against intact", value: (row) => ROWS.difference[row], error: "error", number: true, signed: true },
  { name: "normalised", title: "Norm.", value: (row) => ROWS.normalised[row], number: true, rest: true },
  { name: "documents", title: "n", about: "documents", value: (row) => settingOf(row).documents, number: true, rest: true },
  { name: "shots", title: "Shots", value: (row) => settingOf(row).shots, number: true, rest: true },
  { name: "runs", title: "Runs", value: (row) => planOf(row).runs, number: true, rest: true },
  { name: "depth", title: "Depth", value: (row) => planOf(row).depth, number: true, rest: true },
  { name: "seconds", title: "Seconds", value: (row) => ROWS.seconds[row], number: true, rest: true },
];
const FILTERS = [
  { title: "Model", value: (row) => GROUP_NAMES[settingOf(row).group] },
  { title: "Task", value: (row) => settingOf(row).task },
  { title: "Metric", value: (row) => settingOf(row).metric },
  { title: "Variant", value: (row) => VARIANTS[row].split(" ")[0] || "not recorded" },
  { title: "kv", value: (row) => settingOf(row).kv },
  { title: "Documents", value: (row) => String(settingOf(row).documents) },
];

const table = { rows: [], page: 0, sort: "", down: false };

function setUpTable() {
  const head = make("tr");
  for (const one of COLUMNS) {
    const button = make("button", { type: "button", text: one.title, ...(one.about ? { title: one.about } : {}) });
    button.addEventListener("click", () => {
      table.down = table.sort === one.name ? !table.down : Boolean(one.number);
      table.sort = one.name;
      sortRows();
    });
    const classes = [one.number ? "number" : "", one.rest ? "rest" : ""].join(" ").trim();
    head.append(make("th", { scope: "col", className: classes, "data-name": one.name }, button));
  }
  get("records-table").tHead.append(head);

  table.words = Array.from({ length: COUNT }, (_, row) =>
    [planOf(row).text, VARIANTS[row], GROUP_NAMES[settingOf(row).group], settingOf(row).task, settingOf(row).metric, `kv ${settingOf(row).kv}`]
      .join("\n").toLowerCase());
  table.selects = [];
  for (const filter of FILTERS) {
    const found = Array.from({ length: COUNT }, (_, row) => filter.value(row));
    const values = [...new Set(found)].sort(ordering.compare);
    if (values.length < 2) continue;
    const select = make("select");
    options(select, ["all", ...values]);
    select.addEventListener("change", filterRows);
    get("filters").append(make("label", { text: filter.title }, select));
    table.selects.push({ select, found, values });
  }
  for (const id of ["filter-text", "filter-primary"]) get(id).addEventListener("input", filterRows);
  get("filter-clear").addEventListener("click", () => {
    get("filter-text").value = "";
    get("filter-primary").checked = false;
    for (const { select } of table.selects) select.value = "0";
    filterRows();
  });
  get("page-size").addEventListener("change", () => turn(0));
  get("page-first").addEventListener("click", () => turn(0));
  get("page-before").addEventListener("click", () => turn(table.page - 1));
  get("page-after").addEventListener("click", () => turn(table.page + 1));
  get("page-last").addEventListener("click", () => turn(pages() - 1));
  filterRows();
}

function filterRows() {
  const words = get("filter-text").value.toLowerCase().split(/\s+/).filter(Boolean);
  // A plan has spaces, so what was typed counts as a whole too.
  const whole = get("filter-text").value.trim().toLowerCase();
  const primary = get("filter-primary").checked;
  const chosen = table.selects.filter(({ select }) => select.value !== "0")
    .map(({ select, found, values }) => [found, values[Number(select.value) - 1]]);
  table.rows = [];
  for (let row = 0; row < COUNT; row += 1) {
    if (primary && !settingOf(row).primary) continue;
    if (!chosen.every(([found, value]) => found[row] === value)) continue;
    const text = table.words[row];
    if (whole && !text.includes(whole) && !words.every((word) => text.includes(word))) continue;
    table.rows.push(row);
  }
  get("records-status").textContent = table.rows.length === COUNT
    ? `${COUNT.toLocaleString("en")} records`
    : `${table.rows.length.toLocaleString("en")} of ${COUNT.toLocaleString("en")} records`;
  sortRows();
}

function sortRows() {
  const one = COLUMNS.find(({ name }) => name === table.sort);
  if (one) {
    const values = new Map(table.rows.map((row) => [row, one.value(row)]));
    table.rows.sort((a, b) => compared(values.get(a), values.get(b), table.down) || a - b);
  }
  for (const cell of get("records-table").tHead.rows[0].cells) {
    if (cell.dataset.name === table.sort) cell.setAttribute("aria-sort", table.down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  }
  turn(0);
}

const size = () => Number(get("page-size").value);
const pages = () => Math.max(1, Math.ceil(table.rows.length / size()));

function turn(page) {
  table.page = Math.max(0, Math.min(page, pages() - 1));
  const first = table.page * size();
  const rows = table.rows.slice(first, first + size());
  const body = document.createDocumentFragment();
  for (const row of rows) body.append(recordRow(row));
  if (!rows.length) {
    body.append(make("tr", {}, make("td", { colspan: COLUMNS.length, text: "No record fits. Clear the filters to see all." })));
  }
  get("records-table").tBodies[0].replaceChildren(body);
  get("page-status").textContent = rows.length ? `${first + 1} to ${first + rows.length} of ${table.rows.length}` : "";
  get("page-first").disabled = get("page-before").disabled = table.page === 0;
  get("page-last").disabled = get("page-after").disabled = table.page >= pages() - 1;
}

// The interval of a score, where a standard error of zero says nothing of how far it may be off.
function limits(row) {
  const [value, low, high, share] = [ROWS.value[row], ROWS.low[row], ROWS.high[row], shown(row)];
  if (missing(low)) return "";
  if (low === value) return ` (≤ ${written(high, share)})`;
  return high === value ? ` (≥ ${written(low, share)})` : ` (${written(low, share)} to ${written(high, share)})`;
}

function recordRow(row) {
  const line = make("tr");
  for (const one of COLUMNS) {
    const cell = make("td", { className: [one.number ? "number" : "", one.rest ? "rest" : ""].join(" ").trim() });
    const value = one.value(row);
    if (one.name === "plan") {
      const button = make("button", { type: "button", className: "plan", text: value, title: value, "aria-expanded": "false" });
      button.addEventListener("click", () => toggleDetail(line, row, button));
      cell.append(button);
    } else if (one.error) {
      cell.append(written(value, shown(row), one.signed));
      const error = ROWS[one.error][row];
      const text = error === 0 && one.name === "value" ? limits(row) : missing(error) ? "" : ` ± ${written(error, shown(row))}`;
      if (text) cell.append(make("span", { className: "error", text }));
      if (one.name === "value" && ROWS.not_finite[row]) {
        cell.append(make("span", { className: "error", text: ` ${ROWS.not_finite[row]} answers not finite` }));
      }
    } else if (one.name === "normalised") {
      cell.textContent = scaled(value);
    } else {
      cell.textContent = missing(value) ? "–" : String(value);
      if (one.under) cell.append(make("span", { className: "under", text: one.under(row) }));
    }
    line.append(cell);
  }
  return line;
}

function toggleDetail(line, row, button) {
  const open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  if (open) {
    line.nextSibling.remove();
    return;
  }
  const inside = make("div", { className: "inside" }, drawing(planOf(row)), facts(row));
  const buttons = make("p", { className: "pair" });
  for (const side of ["a", "b"]) {
    const choose = make("button", { type: "button", text: `Compare as ${side.toUpperCase()}` });
    choose.addEventListener("click", () => chooseForComparison(side, row));
    buttons.append(choose);
  }
  inside.append(buttons);
  line.after(make("tr", { className: "detail" }, make("td", { colspan: COLUMNS.length }, inside)));
}

function facts(row) {
  const [setting, group, plan] = [settingOf(row), groupOf(row), planOf(row)];
  const share = setting.share;
  const values = {
    Plan: plan.text, Cost: cost(plan), Variant: VARIANTS[row] || "not recorded", Task: `${setting.task}, version ${setting.task_version || "unknown"}`,
    Metric: `${setting.metric} (${setting.aggregation}, ${setting.higher ? "higher" : "lower"} is better)`,
    Score: `${written(ROWS.value[row], share)} ± ${written(ROWS.stderr[row], share)}`,
    "95 % interval": missing(ROWS.low[row]) ? "" : `${written(ROWS.low[row], share)} to ${written(ROWS.high[row], share)}`,
    "Intact model": written(ROWS.intact[row], share), Chance: written(setting.chance, share), Normalised: scaled(ROWS.normalised[row]),
    Model: group.model, Revision: group.revision || "none", "Digest of the weights": group.weights || "unknown", dtype: group.dtype,
    Device: setting.device, Attention: setting.attention || "unknown", kv: setting.kv, Documents: setting.documents,
    Limit: missing(setting.limit) ? "not recorded, or none" : setting.limit, Shots: setting.shots, Seed: setting.seed,
    "Batch size": setting.batch_size, Batching: setting.batching, "Digest of the prompts": setting.requests,
    "Fine-tuning": group.tuning ? Object.entries(group.tuning).map(([name, value]) => `${name} ${missing(value) ? "all" : value}`).join(", ") : "",
    Versions: Object.entries(setting.versions).map(([name, value]) => `${name} ${value}`).join(", "), Scored: DATES[row],
    Seconds: ROWS.seconds[row],
  };
  const list = make("dl");
  for (const [name, value] of Object.entries(values)) {
    if (value !== "") list.append(make("div", {}, make("dt", { text: name }), make("dd", { text: String(value) })));
  }
  return list;
}
