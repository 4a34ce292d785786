"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const all = (query, root = document) => [...root.querySelectorAll(query)];

// Theme. Charts and tables take their colours from the page's variables: nothing is drawn again.
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("lethe-theme", root.dataset.theme); } catch (error) { /* not remembered, then */ }
});

// Charts: each is drawn when it comes near, and again when one of its switches moves.
const views = new Map();
const picked = new Set();

function variant(name) {
  const figure = name.split("/")[0];
  const chosen = all(`input[data-figure="${figure}"]:checked`).map((input) => input.value);
  const known = data.specs[name];
  return known[chosen.join("/")] ?? Object.values(known)[0];
}

async function draw(place) {
  const name = place.dataset.chart;
  const { spec, note } = variant(name);
  const says = document.querySelector(`[data-note="${name}"]`);
  if (says) says.textContent = note;
  const made = await vegaEmbed(place, spec, { actions: false, renderer: "svg", tooltip: { theme: "custom" }, ast: false, logLevel: 1 });
  views.get(place)?.finalize();
  views.set(place, made.view);
  show(made.view);
}

function show(view) {
  try { view.signal("picked", [...picked]).runAsync(); } catch (error) { /* a chart of one method has nothing to pick */ }
}

const near = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }
}, { rootMargin: "600px" });
all("[data-chart]").forEach((place) => near.observe(place));
all("input[data-figure]").forEach((input) => input.addEventListener("change", () => {
  all("[data-chart]").filter((place) => place.dataset.chart.split("/")[0] === input.dataset.figure && views.has(place)).forEach(draw);
}));
all("[data-pick]").forEach((button) => button.addEventListener("click", () => {
  const name = button.dataset.pick;
  picked.has(name) ? picked.delete(name) : picked.add(name);
  all("[data-pick]").forEach((other) => other.setAttribute("aria-pressed", picked.has(other.dataset.pick)));
  all("#board tbody.methods tr").forEach((row) => { row.style.opacity = !picked.size || picked.has(row.dataset.method) ? "" : ".3"; });
  views.forEach(show);
}));

// The board: methods are sorted, controls stay. What has no figure comes last, either way.
const board = document.getElementById("board");
const rows = board.querySelector("tbody.methods");
all("thead button", board).forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th");
  const index = [...head.parentNode.children].indexOf(head);
  const now = head.getAttribute("aria-sort");
  const first = button.dataset.sort === "down" ? "descending" : "ascending";
  const next = now ? (now === "ascending" ? "descending" : "ascending") : first;
  all("th[aria-sort]", board).forEach((other) => { other.removeAttribute("aria-sort"); other.querySelector("i").textContent = ""; });
  head.setAttribute("aria-sort", next);
  button.querySelector("i").textContent = next === "ascending" ? "▴" : "▾";
  const sign = next === "ascending" ? 1 : -1;
  const value = (row) => {
    const cell = row.children[index];
    if (button.dataset.sort === "text") return cell.textContent.trim();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  [...rows.children].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
  }).forEach((row) => rows.append(row));
}));
document.getElementById("all").addEventListener("click", (event) => {
  event.currentTarget.setAttribute("aria-pressed", board.classList.toggle("all"));
});

// Pictures: each is in the page once, and is put where it is shown.
const tasks = document.getElementById("task");
function fill(root) {
  all(".shot", root).forEach((shot) => { shot.querySelector("img").src = data.pictures[shot.dataset.source]; });
}
if (tasks) {
  const choose = () => all("[data-task]").forEach((strip) => {
    strip.hidden = strip.dataset.task !== tasks.value;
    if (!strip.hidden) fill(strip);
  });
  tasks.addEventListener("change", choose);
  choose();
}
const large = document.getElementById("large");
let current = null;
function enlarge(shot) {
  current = shot;
  large.querySelector("img").src = data.pictures[shot.dataset.source];
  large.querySelector("img").alt = shot.querySelector("img").alt;
  document.getElementById("large-method").textContent = shot.dataset.method;
  document.getElementById("large-prompt").textContent = `“${shot.dataset.prompt}”`;
  document.getElementById("large-saw").textContent = shot.dataset.saw ? `judged ${shot.dataset.saw}` : "";
  if (!large.open) large.showModal();
}
function step(across, down) {
  const table = current.closest("table");
  const lines = all("tbody tr", table).map((row) => [...row.children].slice(1).map((cell) => cell.querySelector(".shot")));
  const y = lines.findIndex((line) => line.includes(current));
  const x = lines[y].indexOf(current);
  const line = lines[(y + down + lines.length) % lines.length];
  for (let k = 0; k < line.length; k++) {
    const next = line[(x + across * (down ? 0 : k + 1) + line.length * 2 + (down ? k : 0)) % line.length];
    if (next) return enlarge(next);
  }
}
all(".shot").forEach((shot) => shot.addEventListener("click", () => enlarge(shot)));
all("[data-step]").forEach((button) => button.addEventListener("click", () => step(Number(button.dataset.step), 0)));
large.querySelector("[data-close]").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
large.addEventListener("close", () => current?.focus());
large.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (moves[event.key]) { event.preventDefault(); step(...moves[event.key]); }
});
