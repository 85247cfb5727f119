// Verdicts of a person on images and their regions: kept in this browser, saved as verdicts.csv, loaded from such files.
const REVIEW_KEYS = { d: "defect", f: "false alarm", m: "missed", g: "good", u: "unsure" };
const REVIEW_VERDICTS = Object.values(REVIEW_KEYS);
const REVIEW_COLUMNS = ["category", "split", "sample_id", "run", "x", "y", "width", "height", "verdict", "note", "reviewer"];
const review = { entries: new Map(), region: -1 };

// What an entry is about: an image, or a region of a run's final mask by its box.
function reviewKey({ category, split, sample_id, run, box }) {
  return JSON.stringify([category, split, sample_id, run, box]);
}

function reviewSubject(row, region = -1) {
  const { group, samples, a } = gallery.view;
  const box = region < 0 ? null : a.boxes[row][region];
  return { category: group.category, split: group.split, sample_id: samples.id[row], run: box ? a.name : "", box };
}

function reviewOf(row, region = -1) {
  return review.entries.get(reviewKey(reviewSubject(row, region)));
}

function regionsOf(row) {
  return gallery.view.a.boxes[row] ?? [];
}

// Verdicts on an image: its own, and those on its regions in the run that is shown.
function reviewsOf(row) {
  return [-1, ...regionsOf(row).keys()].map((region) => reviewOf(row, region)?.verdict).filter(Boolean);
}

function isInReview(row) {
  const wanted = $("reviewed").value;
  const verdicts = reviewsOf(row);
  return !wanted || (wanted === "no" ? !verdicts.length : wanted === "yes" ? verdicts.length > 0 : verdicts.includes(wanted));
}

// Set a verdict or a note; the same verdict again takes it back.
function setReview(row, region, change) {
  readReview();
  const subject = reviewSubject(row, region);
  const before = review.entries.get(reviewKey(subject)) ?? { ...subject, verdict: "", note: "" };
  const verdict = change.verdict === before.verdict ? "" : change.verdict ?? before.verdict;
  const entry = { ...before, ...change, verdict, reviewer: $("reviewer").value.trim() };
  if (entry.verdict || entry.note) review.entries.set(reviewKey(subject), entry);
  else review.entries.delete(reviewKey(subject));
  keepReview();
  redrawRow(row);
}

// The same page in another tab may have been used meanwhile.
function readReview() {
  const text = kept.get(reviewName());
  if (text !== null) review.entries = new Map(JSON.parse(text).map((entry) => [reviewKey(entry), entry]));
}

function keepReview() {
  const stays = kept.set(reviewName(), JSON.stringify([...review.entries.values()]));
  if (!stays) $("review-note").textContent = "This browser keeps nothing. Save the file before you close the page.";
  showReviewCount();
}

function reviewName() {
  return `review-${location.pathname}`;
}

function showReviewCount() {
  if (!gallery.view) return;
  const { samples } = gallery.view;
  const done = samples.id.filter((_, row) => reviewsOf(row).length).length;
  $("review-count").textContent = `${done.toLocaleString("en")} of ${samples.id.length.toLocaleString("en")} images reviewed`;
  $("review-save").disabled = !review.entries.size;
}

function reviewBadges(row) {
  const own = reviewOf(row);
  const counts = new Map();
  for (const region of regionsOf(row).keys()) {
    const verdict = reviewOf(row, region)?.verdict;
    if (verdict) counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
  }
  const texts = [own?.verdict, ...[...counts].map(([verdict, n]) => `${n} region${n > 1 ? "s" : ""}: ${verdict}`)].filter(Boolean);
  return texts.map((text) => make("span", { className: "reviewed", textContent: `✓ ${text}`, title: own?.note || "Reviewed" }));
}

function drawViewerReview() {
  const { row } = viewer;
  const regions = regionsOf(row);
  if (review.region >= regions.length) review.region = -1;
  const entry = reviewOf(row, review.region);
  for (const button of $("viewer-review").querySelectorAll("[data-verdict]")) {
    const { verdict } = button.dataset;
    button.setAttribute("aria-pressed", String(entry?.verdict === verdict));
    button.disabled = review.region >= 0 && (verdict === "missed" || verdict === "good");
  }
  $("review-region").textContent = review.region < 0 ? "Whole image" : `Region ${review.region + 1} of ${regions.length}`;
  $("review-region").disabled = !regions.length;
  if (document.activeElement !== $("review-text")) $("review-text").value = entry?.note ?? "";
  drawReviewBox(row, regions);
}

// A frame around the chosen region in every panel.
function drawReviewBox(row, regions) {
  for (const frame of document.querySelectorAll("#lenses .frame")) frame.remove();
  if (review.region < 0) return;
  const { samples } = gallery.view;
  const [x, y, width, height] = regions[review.region];
  for (const stack of document.querySelectorAll("#lenses .stack")) {
    stack.append(make("i", {
      className: "frame",
      style: {
        left: `${100 * x / samples.fullWidth[row]}%`, top: `${100 * y / samples.fullHeight[row]}%`,
        width: `${100 * width / samples.fullWidth[row]}%`, height: `${100 * height / samples.fullHeight[row]}%`,
      },
    }));
  }
}

function nextRegion() {
  review.region = review.region + 1 < regionsOf(viewer.row).length ? review.region + 1 : -1;
  drawViewerReview();
}

// A verdict on what is in front: the open image or its chosen region, else the current image of the list.
function judge(verdict) {
  const opened = $("viewer").open;
  if (!opened && !gallery.order.length) return;
  const row = opened ? viewer.row : gallery.order[gallery.current];
  const region = opened ? review.region : -1;
  if (region >= 0 && (verdict === "missed" || verdict === "good")) return;
  setReview(row, region, { verdict });
  if (opened) drawViewerReview();
}

function quoted(value) {
  const text = String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function reviewCsv() {
  const entries = [...review.entries.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  const lines = entries.map((entry) => {
    const [x, y, width, height] = entry.box ?? [];
    return REVIEW_COLUMNS.map((name) => quoted({ ...entry, x, y, width, height }[name])).join(",");
  });
  return [REVIEW_COLUMNS.join(","), ...lines, ""].join("\r\n");
}

function saveReview() {
  const url = URL.createObjectURL(new Blob([reviewCsv()], { type: "text/csv" }));
  make("a", { href: url, download: "verdicts.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Rows of a CSV with quoted cells.
function parseCsv(text) {
  const rows = [[]];
  const cells = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/gy;
  for (let match; cells.lastIndex < text.length && (match = cells.exec(text));) {
    rows.at(-1).push(match[1] === undefined ? match[2] : match[1].replaceAll('""', '"'));
    if (match[3] !== ",") rows.push([]);
  }
  if (cells.lastIndex < text.length) throw new Error(`not a CSV file near line ${rows.length}`);
  return rows.filter((row) => row.some((cell) => cell !== ""));
}

function reviewEntries(text) {
  const [header, ...rows] = parseCsv(text.replace(/^\ufeff/, ""));
  const missing = REVIEW_COLUMNS.filter((name) => !header?.includes(name));
  if (missing.length) throw new Error(`no column ${missing.join(", ")}; expected a file that this page saved`);
  return rows.map((cells, n) => {
    const entry = Object.fromEntries(REVIEW_COLUMNS.map((name) => [name, cells[header.indexOf(name)] ?? ""]));
    const { x, y, width, height, ...rest } = entry;
    const box = [x, y, width, height].map(Number);
    if (rest.verdict && !REVIEW_VERDICTS.includes(rest.verdict)) throw new Error(`row ${n + 1} has the verdict ${rest.verdict}`);
    if (box.some((value) => !Number.isInteger(value))) throw new Error(`row ${n + 1} has a box that is not in pixels`);
    return { ...rest, box: x === "" ? null : box };
  });
}

// Take over the verdicts of a file; where both have one, that of the page stays, and differences are listed.
async function loadReview(file) {
  const loaded = reviewEntries(await file.text());
  const here = loaded.filter((entry) => data.groups.some((group) => group.category === entry.category && group.split === entry.split));
  const differ = [];
  readReview();
  for (const entry of here) {
    const before = review.entries.get(reviewKey(entry));
    if (before?.verdict && before.verdict !== entry.verdict) differ.push(`${entry.sample_id}: ${before.verdict} here, ${entry.verdict} there`);
    else review.entries.set(reviewKey(entry), entry);
  }
  keepReview();
  applyFilters();
  const other = loaded.length - here.length;
  $("review-note").textContent = [
    `${here.length - differ.length} verdicts loaded.`,
    other ? `${other} are of other categories or splits.` : "",
    differ.length ? `${differ.length} differ from those here, which stay: ${differ.join("; ")}.` : "",
  ].filter(Boolean).join(" ");
}

function startReview() {
  try { readReview(); } catch (error) { trouble(error); }
  $("reviewer").value = kept.get("reviewer") ?? "";
  $("reviewer").addEventListener("change", () => kept.set("reviewer", $("reviewer").value));
  $("reviewed").addEventListener("change", applyFilters);
  $("review-save").addEventListener("click", saveReview);
  $("review-load").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) loadReview(file).catch((error) => { $("review-note").textContent = `${file.name}: ${error.message}.`; });
  });
  $("viewer-review").addEventListener("click", (event) => {
    const verdict = event.target.closest("[data-verdict]")?.dataset.verdict;
    if (verdict) judge(verdict);
  });
  $("review-region").addEventListener("click", nextRegion);
  $("review-text").addEventListener("change", () => {
    setReview(viewer.row, review.region, { note: $("review-text").value.trim() });
    drawViewerReview();
  });
}
