// A single image at any zoom: all panels show the same part of it.
const viewer = { row: 0, rows: [], zoom: 1, x: 0.5, y: 0.5, request: 0 };
const MOST_ZOOM = 64;

function showViewer(row, rows) {
  Object.assign(viewer, { row, rows, zoom: 1, x: 0.5, y: 0.5 });
  review.region = -1;
  if (!$("viewer").open) $("viewer").showModal();
  drawViewer();
}

function drawViewer() {
  const { view } = gallery;
  const { samples, a, b } = view;
  const { row } = viewer;
  $("viewer-title").textContent = samples.id[row];
  const facts = [make("span", { textContent: labelText(samples, row) })];
  for (const run of b ? [a, b] : [a]) {
    if (b) facts.push(make("b", { textContent: run.name }));
    if (run.result[row] === null) continue;
    facts.push(badge(run.result[row]), ...factsOf(run, row).map(([term, value, title]) => make("span", { title, textContent: `${term} ${value}` })));
  }
  if (samples.regions[row]) facts.push(make("span", { textContent: `${samples.regions[row]} true region${samples.regions[row] > 1 ? "s" : ""}` }));
  $("viewer-facts").replaceChildren(...facts);
  const panels = panelsOf(view, row, true);
  $("lenses").replaceChildren(...panels);
  $("lenses").style.setProperty("--panels", panels.length);
  $("viewer-note").textContent = `${samples.fullWidth[row]} × ${samples.fullHeight[row]} pixels; shown at ${samples.width[row]} × ${samples.height[row]}.`;
  drawViewerReview();
  drawEvidence(row).catch(trouble);
  arrangeLenses();
  loadOriginal(row);
}

// Replace the thumbnails by the original image if the data set is still where it was when the page was made.
function loadOriginal(row) {
  const { samples } = gallery.view;
  viewer.request += 1;
  const request = viewer.request;
  const image = new Image();
  image.onload = () => {
    if (request !== viewer.request || image.naturalWidth * samples.fullHeight[row] !== image.naturalHeight * samples.fullWidth[row]) return;
    for (const base of $("lenses").querySelectorAll("img.base")) base.src = image.src;
    $("viewer-note").textContent = `${samples.fullWidth[row]} × ${samples.fullHeight[row]} pixels, original image.`;
    showZoom();
  };
  image.onerror = () => {
    if (request === viewer.request) $("viewer-note").textContent += " The original image cannot be loaded.";
  };
  image.src = samples.original[row];
}

// Side by side in as many columns as make the image largest.
function arrangeLenses() {
  const { samples } = gallery.view;
  const [width, height] = [samples.width[viewer.row], samples.height[viewer.row]];
  const box = $("lenses");
  const count = box.children.length;
  let best = { size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const lines = Math.ceil(count / columns);
    const [w, h] = [(box.clientWidth - 10 * (columns - 1)) / columns, (box.clientHeight - 10 * (lines - 1)) / lines - 26];
    const size = Math.min(w / width, h / height);
    if (size > best.size) best = { size, columns, lines, w, h };
  }
  if (!best.size) return;
  viewer.fit = best.size;
  viewer.lens = [best.w, best.h];
  box.style.gridTemplateColumns = `repeat(${best.columns}, minmax(0, 1fr))`;
  box.style.gridTemplateRows = `repeat(${best.lines}, minmax(0, 1fr))`;
  box.style.setProperty("--fit-width", `${width * best.size}px`);
  box.style.setProperty("--fit-height", `${height * best.size}px`);
  showZoom();
}

function showZoom() {
  const { samples } = gallery.view;
  const [width, height] = [samples.width[viewer.row] * viewer.fit, samples.height[viewer.row] * viewer.fit];
  // What is seen stays within the image.
  const clamp = (at, size, lens) => {
    const half = Math.min(0.5, lens / size / viewer.zoom / 2);
    return Math.min(1 - half, Math.max(half, at));
  };
  viewer.x = clamp(viewer.x, width, viewer.lens[0]);
  viewer.y = clamp(viewer.y, height, viewer.lens[1]);
  const box = $("lenses");
  box.style.setProperty("--zoom", viewer.zoom);
  box.style.setProperty("--left", `${viewer.lens[0] / 2 - viewer.x * width * viewer.zoom}px`);
  box.style.setProperty("--top", `${viewer.lens[1] / 2 - viewer.y * height * viewer.zoom}px`);
  const share = width * viewer.zoom / samples.fullWidth[viewer.row];
  box.classList.toggle("pixels", share > 3);
  $("viewer-zoom").textContent = `${Math.round(100 * share)} %`;
}

// Zoom by a factor, with a point of the lens (0..1 from its upper left) staying where it is.
function zoomBy(factor, px = 0.5, py = 0.5) {
  const { samples } = gallery.view;
  const [width, height] = [samples.width[viewer.row] * viewer.fit, samples.height[viewer.row] * viewer.fit];
  const zoom = Math.min(MOST_ZOOM, Math.max(1, viewer.zoom * factor));
  const [dx, dy] = [(px - 0.5) * viewer.lens[0] / width, (py - 0.5) * viewer.lens[1] / height];
  viewer.x += dx / viewer.zoom - dx / zoom;
  viewer.y += dy / viewer.zoom - dy / zoom;
  viewer.zoom = zoom;
  showZoom();
}

function step(by) {
  const next = viewer.rows.indexOf(viewer.row) + by;
  if (next < 0 || next >= viewer.rows.length) return;
  viewer.row = viewer.rows[next];
  review.region = -1;
  if (viewer.rows === gallery.order) gallery.current = next;
  drawViewer();
}

function startViewer() {
  const box = $("lenses");
  box.addEventListener("wheel", (event) => {
    const well = event.target.closest(".well");
    if (!well) return;
    event.preventDefault();
    const at = well.getBoundingClientRect();
    zoomBy(Math.exp(-event.deltaY / 300), (event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height);
  }, { passive: false });
  box.addEventListener("pointerdown", (event) => {
    if (!event.target.closest(".well") || event.button) return;
    box.setPointerCapture(event.pointerId);
    viewer.drag = [event.clientX, event.clientY];
  });
  box.addEventListener("pointermove", (event) => {
    if (!viewer.drag) return;
    const { samples } = gallery.view;
    const scale = viewer.fit * viewer.zoom;
    viewer.x -= (event.clientX - viewer.drag[0]) / (samples.width[viewer.row] * scale);
    viewer.y -= (event.clientY - viewer.drag[1]) / (samples.height[viewer.row] * scale);
    viewer.drag = [event.clientX, event.clientY];
    showZoom();
  });
  for (const name of ["pointerup", "pointercancel"]) box.addEventListener(name, () => { viewer.drag = null; });
  box.addEventListener("dblclick", () => { viewer.zoom = 1; showZoom(); });
  $("viewer").addEventListener("click", (event) => {
    const action = event.target.closest("[data-do]")?.dataset.do;
    if (action) act(action);
  });
  $("viewer").addEventListener("close", () => {
    viewer.request += 1;
    $("lenses").replaceChildren();
    if (place().view === "images" && viewer.rows === gallery.order) focusRow(gallery.current);
  });
  addEventListener("resize", () => { if ($("viewer").open) arrangeLenses(); });
}

function act(action) {
  const actions = {
    "zoom-in": () => zoomBy(1.5),
    "zoom-out": () => zoomBy(1 / 1.5),
    fit: () => { viewer.zoom = 1; showZoom(); },
    previous: () => step(-1),
    next: () => step(1),
    close: () => $("viewer").close(),
  };
  actions[action]();
}
