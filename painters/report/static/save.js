
// Pictures to keep: the comparison and the figures, as SVG and PNG. They are made here; nothing is loaded.

const SVG = "http://www.w3.org/2000/svg";
const PICTURE = { width: 1240, margin: 24, row: 30, ink: "#1b1f24", faint: "#57606a", line: "#d0d7de" };
// Columns of the picture: the cell of the table, where its text is, and on which side of that place.
const PICTURE_COLUMNS = [
  [0, 24, "start"], [1, 210, "start"], [2, 420, "end"], [3, 500, "end"], [4, 650, "end"], [6, 960, "end"],
  [7, 1000, "end"], [8, 1075, "end"], [9, 1150, "end"], [10, 1216, "end"],
];

// An element of SVG with attributes and text; text is never markup.
function drawn(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function save(name, address) {
  make("a", { download: name, href: address }).click();
}

// Save an SVG, given as a data: address, as it is or as the pixels of a PNG.
function savePicture(name, address, kind) {
  if (kind === "svg") {
    save(`${name}.svg`, address);
    return Promise.resolve();
  }
  return new Promise((done) => {
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = make("canvas");
      const scale = Math.max(1, 2000 / image.naturalWidth);
      canvas.width = Math.round(image.naturalWidth * scale);
      canvas.height = Math.round(image.naturalHeight * scale);
      const brush = canvas.getContext("2d");
      brush.fillStyle = "#ffffff";
      brush.fillRect(0, 0, canvas.width, canvas.height);
      brush.drawImage(image, 0, 0, canvas.width, canvas.height);
      save(`${name}.png`, canvas.toDataURL("image/png"));
      done();
    });
    image.src = address;
  });
}

function saveComparison(kind) {
  while (compare.waiting.length) fillIn(compare.waiting);
  const text = new XMLSerializer().serializeToString(pictureOfComparison());
  return savePicture("comparison", `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`, kind);
}

// Both plans with their drawings, and the rows of the table, dark on white whatever the page's colours are.
function pictureOfComparison() {
  const { width, margin, row, ink, faint, line } = PICTURE;
  const svg = drawn("svg", { xmlns: SVG, width, color: ink, "font-family": "DejaVu Sans, Arial, sans-serif", "font-size": 14 });
  svg.append(drawn("rect", { width: "100%", height: "100%", fill: "#ffffff" }));
  const write = (x, y, text, more = {}) => svg.append(drawn("text", { x, y, fill: ink, ...more }, text));
  write(margin, 36, GROUP_NAMES[compare.group], { "font-size": 18, "font-weight": "bold" });
  const half = (width - 3 * margin) / 2;
  let bottom = 70;
  ["a", "b"].forEach((side, number) => {
    const { plan, kv } = compare.sides[chosenPlace(side)];
    const left = margin + number * (half + margin);
    const text = `${side.toUpperCase()}: ${plan.text}${kv === "exact" ? "" : `, ${kv} cache`}`;
    write(left, 66, text.length > 66 ? `${text.slice(0, 65)}…` : text, { "font-weight": "bold" });
    if (!plan.svg) return;
    const drawing = new DOMParser().parseFromString(plan.svg, "image/svg+xml").documentElement;
    const [tall, wide] = ["height", "width"].map((name) => Number(drawing.getAttribute(name)));
    const scale = Math.min(1, half / wide);
    for (const [name, value] of Object.entries({ x: left, y: 78, width: wide * scale, height: tall * scale })) drawing.setAttribute(name, value);
    svg.append(document.importNode(drawing, true));
    bottom = Math.max(bottom, 78 + tall * scale);
  });
  let y = bottom + 36;
  const rule = () => svg.append(drawn("line", { x1: margin, x2: width - margin, y1: y + 9, y2: y + 9, stroke: line }));
  for (const [cell, x, anchor] of PICTURE_COLUMNS) write(x, y, HEAD[cell], { "text-anchor": anchor, "font-weight": "bold" });
  rule();
  for (const { cells } of get("compare-table").tBodies[0].rows) {
    y += row;
    for (const [cell, x, anchor] of PICTURE_COLUMNS) {
      write(x, y, cell ? cells[cell].textContent : cells[0].firstChild.textContent, { "text-anchor": anchor });
    }
    const interval = cells[5].querySelector("svg");
    if (interval) {
      const copy = interval.cloneNode(true);
      for (const [name, value] of Object.entries({ x: 664, y: y - 17, width: 200, height: 24 })) copy.setAttribute(name, value);
      svg.append(copy);
    }
    rule();
  }
  y += row;
  write(margin, y, `A − B ± standard error, paired by document; 95 % of ${DRAWS.toLocaleString("en")} bootstrap draws (seed ${SEED}).`, { fill: faint, "font-size": 12 });
  svg.setAttribute("height", y + margin);
  svg.setAttribute("viewBox", `0 0 ${width} ${y + margin}`);
  return svg;
}

// A line under a box that scrolls sideways, shown while a part of the box is out of sight; its cut edges fade.
const cut = new ResizeObserver((entries) => entries.forEach(({ target }) => showCut(target.matches(".scroll, .drawing") ? target : target.parentNode)));

function showCut(box) {
  const left = box.scrollLeft > 1;
  const right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
  box.classList.toggle("cut-left", left);
  box.classList.toggle("cut-right", right);
  const hint = box.nextElementSibling;
  if (hint && hint.classList.contains("hint")) hint.hidden = box.scrollWidth <= box.clientWidth + 1;
}

// Watch a box; return the line, which belongs after it.
function hintOf(box) {
  box.addEventListener("scroll", () => showCut(box), { passive: true });
  cut.observe(box);
  if (box.firstElementChild) cut.observe(box.firstElementChild);
  return make("p", { className: "hint", text: "↔ Scroll sideways for the rest.", hidden: "" });
}

function setUpHints() {
  for (const box of document.querySelectorAll(".scroll")) box.after(hintOf(box));
}
