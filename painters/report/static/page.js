
// What is left: one figure at a time, the gallery of plans, and the start.

function setUpFigures() {
  const figures = [...document.querySelectorAll("#figures figure")];
  for (const kind of ["svg", "png"]) {
    for (const button of document.querySelectorAll(`#figures button[data-save=${kind}]`)) {
      const image = button.closest("figure").querySelector("img");
      button.addEventListener("click", () => savePicture(button.dataset.name, image.src, kind));
    }
  }
  if (figures.length < 2) return;
  const choice = get("figure-choice");
  const show = (number) => {
    choice.value = number;
    figures.forEach((figure, place) => { figure.hidden = place !== number; });
    get("figure-before").disabled = number === 0;
    get("figure-after").disabled = number === figures.length - 1;
  };
  choice.addEventListener("change", () => show(Number(choice.value)));
  get("figure-before").addEventListener("click", () => show(Number(choice.value) - 1));
  get("figure-after").addEventListener("click", () => show(Number(choice.value) + 1));
  get("figure-picker").hidden = false;
  // The first shows no records, where there are others.
  show(document.querySelector("#figure-choice option").textContent.startsWith("1.") ? 1 : 0);
}

const STEP = 12; // plans that are drawn at a time
const gallery = { plans: [], shown: STEP };

function setUpGallery() {
  const rows = DATA.plans.map(() => []);
  for (let row = 0; row < COUNT; row += 1) rows[ROWS.plan[row]].push(row);
  gallery.all = DATA.plans.map((plan, number) => {
    const variants = [...new Set(rows[number].map((row) => VARIANTS[row]).filter(Boolean))];
    const scores = new Map();
    for (const row of rows[number]) {
      const value = ROWS.normalised[row];
      const { group, primary, kv } = settingOf(row);
      if (missing(value) || !primary || kv !== "exact") continue;
      if (!scores.has(group)) scores.set(group, []);
      scores.get(group).push(value);
    }
    const medians = [...scores].map(([group, values]) => ({ name: GROUP_NAMES[group], tasks: values.length, value: median(values) }));
    return { plan, variants, medians, row: rows[number][0], best: median(medians.map(({ value }) => value)), words: `${plan.text}\n${variants.join("\n")}`.toLowerCase() };
  });
  get("plans-text").addEventListener("input", orderGallery);
  get("plans-order").addEventListener("change", orderGallery);
  get("plans-more").addEventListener("click", () => {
    gallery.shown += STEP;
    showGallery();
  });
  orderGallery();
}

function orderGallery() {
  const wanted = get("plans-text").value.trim().toLowerCase();
  const order = get("plans-order").value;
  const value = { normalised: ({ best }) => best, text: ({ plan }) => plan.text, depth: ({ plan }) => plan.depth, runs: ({ plan }) => plan.runs }[order];
  gallery.plans = gallery.all.filter(({ words }) => words.includes(wanted));
  gallery.plans.sort((a, b) => compared(value(a), value(b), order === "normalised") || ordering.compare(a.plan.text, b.plan.text));
  gallery.shown = STEP;
  showGallery();
}

function showGallery() {
  const shownPlans = gallery.plans.slice(0, gallery.shown);
  get("plans-cards").replaceChildren(...shownPlans.map(({ plan, variants, medians, row }) => {
    const about = variants.length > 3 ? [...variants.slice(0, 3), `${variants.length - 3} more`] : variants;
    const choose = make("button", { type: "button", text: "Compare", "aria-label": `Compare ${plan.text}` });
    choose.addEventListener("click", () => chooseForComparison("a", row));
    return make("article", { className: "card" },
      make("h3", {}, make("code", { text: plan.text })),
      drawing(plan),
      make("p", { text: [plan.intact ? "the intact model" : "", cost(plan)].filter(Boolean).join(", ") }),
      ...(about.length ? [make("p", { text: about.join("; ") })] : []),
      ...(medians.length ? [make("p", { text: `median of normalised tasks: ${medians.map(({ name, tasks, value }) => `${name} ${scaled(value)} (${tasks})`).join(", ")}` })] : []),
      make("p", {}, choose));
  }));
  get("plans-status").textContent = `${gallery.plans.length.toLocaleString("en")} plans, ${shownPlans.length} drawn`;
  get("plans-more").hidden = shownPlans.length === gallery.plans.length;
}

setUpHints();
setUpFigures();
setUpComparison();
setUpTable();
setUpGallery();
