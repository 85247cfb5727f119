// The list of images: filters, order, and the rows in sight. Other rows are not in the page: lists may be long.
const gallery = { group: -1, run: -1, versus: -1, view: null, order: [], current: 0, drawn: new Map(), printed: 0, width: 0 };
const SIZES = [[0, 1e-4, "below 0.01 %"], [1e-4, 1e-3, "0.01 to 0.1 %"], [1e-3, 1e-2, "0.1 to 1 %"], [1e-2, 0.1, "1 to 10 %"], [0.1, 2, "above 10 %"]];
const MOST_PRINTED = 200;
const OVERSCAN = 900; // pixels above and below the window that are kept drawn

async function openGallery(group, run, versus) {
  const same = gallery.group === group;
  if (same && gallery.run === run && gallery.versus === versus) return;
  Object.assign(gallery, { group, run, versus });
  const of = data.groups[group];
  const load = (n) => robis.load(of, of.runs[n].file).then((columns) => ({ ...of.runs[n], ...columns }));
  const [samples, a, b] = await Promise.all([robis.load(of, "samples"), load(run), versus < 0 ? null : load(versus)]);
  if (gallery.group !== group || gallery.run !== run || gallery.versus !== versus) return;
  gallery.view = { group: of, samples, a, b };
  fillControls(same);
  applyFilters();
}

function fillControls(sameGroup) {
  const { group, samples, a, b } = gallery.view;
  $("group").value = gallery.group;
  options($("run"), group.runs.map((run, n) => [n, run.name]), gallery.run);
  options($("versus"), [[-1, "nothing"], ...group.runs.map((run, n) => [n, run.name]).filter(([n]) => n !== gallery.run)], gallery.versus);
  $("versus-label").hidden = group.runs.length < 2;
  $("differ-label").hidden = b === null;
  const counts = new Map();
  for (const result of a.result) counts.set(result, (counts.get(result) ?? 0) + 1);
  for (const chip of document.querySelectorAll("#chips label")) {
    const found = counts.get(chip.querySelector("input").value) ?? 0;
    chip.hidden = !found;
    chip.querySelector("b").textContent = found;
  }
  const chosen = sameGroup ? { defect: $("defect").value, size: $("size").value } : { defect: "", size: "" };
  const defects = new Map();
  samples.defect.forEach((defect, row) => {
    if (defect && samples.label[row] !== "normal") defects.set(defect, (defects.get(defect) ?? 0) + 1);
  });
  options($("defect"), [["", "any"], ...[...defects].sort().map(([name, n]) => [name, `${name} (${n})`])], chosen.defect);
  $("defect").parentElement.hidden = !defects.size;
  const sizes = SIZES.map(([low, high, text], n) => [n, text, samples.area.filter((area) => area > 0 && area >= low && area < high).length]);
  options($("size"), [["", "any"], ...sizes.filter(([, , found]) => found).map(([n, text, found]) => [n, `${text} (${found})`])], chosen.size);
  $("size").parentElement.hidden = !samples.area.some((area) => area > 0);
  const sorts = [["", "anomalous first, then score"], ["margin", "margin to the limit"], ["score", "score"], ["segF1", "SegF1, worst first"], ["area", "defect area"], ["threshold", "threshold"], ["name", "name"]];
  if (b) sorts.splice(4, 0, ["gain", "gain in SegF1 of the second"]);
  options($("sort"), sorts, $("sort").value);
}

function applyFilters() {
  const { samples, a, b } = gallery.view;
  const results = new Set([...document.querySelectorAll("#chips input:checked")].map((box) => box.value));
  const [defect, size, differ] = [$("defect").value, $("size").value, b ? $("differ").value : ""];
  const judged = $("judged").value;
  const words = $("search").value.trim().toLowerCase();
  const right = (run, row) => run.result[row] === "found" || run.result[row] === "clean";
  const ofJudged = {
    anomalous: (row) => a.judged[row] === true,
    normal: (row) => a.judged[row] === false,
    kept: (row) => keptMask(a, row),
  };
  gallery.order = [];
  for (let row = 0; row < samples.id.length; row += 1) {
    if (a.result[row] !== null && !results.has(a.result[row])) continue;
    if (judged && !ofJudged[judged](row)) continue;
    if (defect && (samples.defect[row] !== defect || samples.label[row] === "normal")) continue;
    if (size !== "" && !(samples.area[row] > 0 && samples.area[row] >= SIZES[size][0] && samples.area[row] < SIZES[size][1])) continue;
    if (words && !samples.id[row].toLowerCase().includes(words)) continue;
    if (!isInReview(row)) continue;
    if (differ === "differ" && a.result[row] === b.result[row]) continue;
    if (differ === "a" && !(right(a, row) && !right(b, row))) continue;
    if (differ === "b" && !(right(b, row) && !right(a, row))) continue;
    gallery.order.push(row);
  }
  sortRows();
  gallery.current = 0;
  showCount();
  showReviewCount();
  resetRows();
}

function sortRows() {
  const { samples, a, b } = gallery.view;
  const keys = {
    margin: (row) => (a.margin[row] === null ? null : -a.margin[row]),
    score: (row) => (a.score[row] === null ? null : -a.score[row]),
    segF1: (row) => a.segF1[row],
    gain: (row) => (a.segF1[row] === null || b.segF1[row] === null ? null : a.segF1[row] - b.segF1[row]),
    area: (row) => (samples.area[row] === null ? null : -samples.area[row]),
    threshold: (row) => (a.threshold[row] === null ? null : -a.threshold[row]),
    name: (row) => samples.id[row],
  };
  const sort = $("sort").value;
  const sign = $("reverse").checked ? -1 : 1;
  if (sort) {
    const key = new Map(gallery.order.map((row) => [row, keys[sort](row)]));
    gallery.order.sort((row, other) => {
      const [x, y] = [key.get(row), key.get(other)];
      if (x === null || y === null) return (x === null) - (y === null) || row - other;
      return sign * (typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y) || row - other;
    });
  } else if (sign < 0) {
    gallery.order.reverse();
  }
}

function showCount() {
  const { group, samples, a } = gallery.view;
  const left = group.images - samples.id.length;
  const parts = Object.entries(a.leftOut).filter(([, n]) => n).map(([name, n]) => `${n} ${name}`);
  $("count").textContent = `${gallery.order.length.toLocaleString("en")} of ${samples.id.length.toLocaleString("en")} images`
    + (left ? `; ${left.toLocaleString("en")} more of this split are not on this page (${parts.join(", ")})` : "") + ".";
}

function layoutOf() {
  const width = $("list").clientWidth;
  if (document.querySelector("#layout input:checked").value === "grid") {
    const columns = Math.max(1, Math.floor((width + 12) / 212));
    $("list").style.setProperty("--panel", "180px");
    return { grid: true, columns, height: 252 };
  }
  const panels = gallery.view.b ? 5 : 4;
  const across = width < 640 ? 2 : panels;
  const panel = Math.round(Math.min(260, Math.max(120, (width - 24) / across * 0.8)));
  $("list").style.setProperty("--panel", `${panel}px`);
  $("list").style.setProperty("--across", across);
  return { grid: false, columns: 1, height: (gallery.view.b ? 76 : 48) + Math.ceil(panels / across) * (panel + 30) + 22 };
}

function resetRows() {
  const list = $("list");
  gallery.width = list.clientWidth;
  gallery.layout = layoutOf();
  list.classList.toggle("grid", gallery.layout.grid);
  gallery.drawn.forEach((element) => element.remove());
  gallery.drawn.clear();
  list.replaceChildren();
  const lines = Math.ceil(gallery.order.length / gallery.layout.columns);
  list.style.height = `${lines * gallery.layout.height}px`;
  if (!gallery.order.length) {
    list.append(make("p", { className: "aside", textContent: "No image matches these filters." }));
    list.style.height = "auto";
  }
  drawRows();
}

function drawRows() {
  if (!gallery.view || $("list").offsetParent === null) return;
  const { height, columns } = gallery.layout;
  const top = -$("list").getBoundingClientRect().top;
  const first = gallery.printed ? 0 : Math.max(0, Math.floor((top - OVERSCAN) / height)) * columns;
  const last = Math.min(gallery.order.length, gallery.printed || Math.ceil((top + innerHeight + OVERSCAN) / height) * columns);
  for (const [position, element] of gallery.drawn) {
    if ((position < first || position >= last) && !element.contains(document.activeElement)) {
      element.remove();
      gallery.drawn.delete(position);
    }
  }
  for (let position = first; position < last; position += 1) {
    if (!gallery.drawn.has(position)) {
      const element = gallery.layout.grid ? makeTile(position) : makeRow(position);
      gallery.drawn.set(position, element);
      $("list").append(element);
    }
  }
}

function placed(position, element) {
  const { height, columns } = gallery.layout;
  element.style.setProperty("top", `${Math.floor(position / columns) * height}px`);
  element.style.setProperty("height", `${height - 12}px`);
  // On paper, where rows follow each other.
  element.style.setProperty("order", position);
  if (columns > 1 || gallery.layout.grid) {
    element.style.setProperty("left", `calc(100% / ${columns} * ${position % columns})`);
    element.style.setProperty("width", `calc(100% / ${columns} - 12px)`);
  }
  element.setAttribute("role", "listitem");
  element.setAttribute("aria-posinset", position + 1);
  element.setAttribute("aria-setsize", gallery.order.length);
  element.dataset.position = position;
  element.tabIndex = -1;
  if (position === gallery.current) element.classList.add("current");
  return element;
}

function makeRow(position) {
  const { view } = gallery;
  const row = gallery.order[position];
  const { samples, a, b } = view;
  const title = make("h3", { textContent: samples.id[row], title: samples.id[row] });
  const label = make("p", { className: "label", textContent: labelText(samples, row) });
  const reviews = reviewBadges(row);
  const head = b
    ? make("header", { className: "both" },
      make("div", { className: "what" }, title, label, ...reviews),
      ...[a, b].map((run) => make("div", { className: "of-run" },
        make("b", { textContent: run.name, title: run.name }),
        ...(run.result[row] === null ? [make("span", { textContent: "–" })] : [badge(run.result[row]), factList(run, row)]))))
    : make("header", {}, ...(a.result[row] === null ? [title, label] : [badge(a.result[row]), title, label, ...reviews, factList(a, row)]));
  const name = [samples.id[row], a.result[row], ...(b ? [b.result[row]] : [])].filter(Boolean).join(", ");
  return placed(position, make("article", { className: "card sample", "aria-label": name }, head,
    make("div", { className: "panels" }, ...panelsOf(view, row, false))));
}

function makeTile(position) {
  const { view } = gallery;
  const row = gallery.order[position];
  const { samples, a } = view;
  const has = a.result[row] !== null;
  const stack = makeStack(view, row, {
    run: a, heat: has, mark: [...(has ? [["coarse", a], ["final", a]] : []), ["truth", null]], alt: `Image ${samples.id[row]} with its masks`,
  });
  stack.classList.remove("gray");
  return placed(position, make("article", { className: "card sample tile", "aria-label": `${samples.id[row]}, ${a.result[row] ?? "not available"}` },
    make("div", { className: "well" }, stack),
    make("p", { className: "name", textContent: samples.id[row], title: samples.id[row] }),
    make("p", { className: "line" }, has ? badge(a.result[row]) : null, ...reviewBadges(row),
      make("span", { textContent: !has ? "not available" : a.segF1[row] === null ? `score ${rounded(a.score[row])}` : `SegF1 ${percent(a.segF1[row])}` }))));
}

// Draw an image of the list again, after its review has changed.
function redrawRow(row) {
  const position = gallery.order.indexOf(row);
  const before = gallery.drawn.get(position);
  if (!before) return;
  const hadFocus = before.contains(document.activeElement);
  const element = gallery.layout.grid ? makeTile(position) : makeRow(position);
  before.replaceWith(element);
  gallery.drawn.set(position, element);
  if (hadFocus) element.focus({ preventScroll: true });
}

function focusRow(position) {
  if (!gallery.order.length) return;
  gallery.drawn.get(gallery.current)?.classList.remove("current");
  gallery.current = Math.min(gallery.order.length - 1, Math.max(0, position));
  const { height, columns } = gallery.layout;
  const top = $("list").getBoundingClientRect().top + scrollY + Math.floor(gallery.current / columns) * height;
  const bar = document.querySelector(".bar").offsetHeight + 12;
  if (top < scrollY + bar || top + height > scrollY + innerHeight) {
    scrollTo({ top: top - bar, behavior: "instant" });
  }
  drawRows();
  const element = gallery.drawn.get(gallery.current);
  element?.classList.add("current");
  element?.focus({ preventScroll: true });
}

function startGallery() {
  options($("group"), data.groups.map((group, n) => [n, `${group.category} / ${group.split}`]));
  $("group").addEventListener("change", (event) => {
    const group = data.groups[Number(event.target.value)];
    const same = (n) => group.runs.findIndex((run) => run.name === data.groups[gallery.group].runs[n]?.name);
    go("images", Number(event.target.value), Math.max(0, same(gallery.run)), same(gallery.versus));
  });
  $("run").addEventListener("change", (event) => {
    const run = Number(event.target.value);
    go("images", gallery.group, run, gallery.versus === run ? -1 : gallery.versus);
  });
  $("versus").addEventListener("change", (event) => go("images", gallery.group, gallery.run, Number(event.target.value)));
  for (const id of ["chips", "differ", "judged", "defect", "size", "sort", "reverse"]) $(id).addEventListener("change", applyFilters);
  $("search").addEventListener("input", applyFilters);
  $("layout").addEventListener("change", resetRows);
  document.querySelector(".side").addEventListener("submit", (event) => event.preventDefault());
  let pending = false;
  const later = () => {
    if (!pending) requestAnimationFrame(() => { pending = false; drawRows(); });
    pending = true;
  };
  addEventListener("scroll", later, { passive: true });
  new ResizeObserver(() => {
    if (gallery.view && $("list").clientWidth !== gallery.width && $("list").offsetParent !== null) resetRows();
  }).observe($("list"));
  $("list").addEventListener("click", (event) => {
    const sample = event.target.closest(".sample");
    if (!sample || getSelection().toString()) return;
    gallery.current = Number(sample.dataset.position);
    openCurrent();
  });
}

function openCurrent() {
  if (gallery.order.length) showViewer(gallery.order[gallery.current], gallery.order);
}
