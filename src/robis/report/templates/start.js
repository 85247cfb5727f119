// Views, layers and keys; starts the page.
const VIEWS = [...document.querySelectorAll(".view")].map((section) => section.dataset.view);

function show() {
  let { view, numbers } = place();
  if (view === "compare") {
    const group = Math.max(0, gallery.group);
    go("images", group, Math.max(0, gallery.run), gallery.run === 1 ? 0 : 1);
    return;
  }
  if (!VIEWS.includes(view)) [view, numbers] = ["overview", []];
  for (const section of document.querySelectorAll(".view")) section.classList.toggle("current", section.dataset.view === view);
  const among = (n, list) => (n >= 0 && n < list.length ? n : 0);
  $("trouble").hidden = true;
  let named = view;
  if (view === "figures" && data.groups.length) {
    showFigures(among(numbers[0] ?? Math.max(0, gallery.group), data.groups)).catch(trouble);
  }
  if (view === "images" && data.groups.length) {
    const group = among(numbers[0] ?? Math.max(0, gallery.group), data.groups);
    const { runs } = data.groups[group];
    const run = among(numbers[1] ?? Math.max(0, gallery.run), runs);
    const versus = numbers[2] >= 0 && numbers[2] < runs.length && numbers[2] !== run ? numbers[2] : -1;
    if (versus >= 0) named = "compare";
    openGallery(group, run, versus).then(() => { if (gallery.view) drawRows(); }).catch(trouble);
  }
  for (const link of document.querySelectorAll(".bar nav a")) {
    if (link.getAttribute("href") === `#${named}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function showLayers() {
  const heat = Number($("heat").value);
  document.documentElement.style.setProperty("--heat", heat / 100);
  $("viewer-heat").value = heat;
  $("heat").nextElementSibling.value = heat;
  for (const box of document.querySelectorAll("[data-layer]")) {
    document.documentElement.classList.toggle(`with-${box.dataset.layer}`, box.checked);
  }
}

function startLayers() {
  $("heat").addEventListener("input", showLayers);
  $("viewer-heat").addEventListener("input", (event) => { $("heat").value = event.target.value; showLayers(); });
  for (const box of document.querySelectorAll("[data-layer]")) box.addEventListener("change", showLayers);
  // Browsers keep the state of controls over a reload.
  showLayers();
}

function toggleLayer(name) {
  const box = document.querySelector(`[data-layer=${name}]`);
  box.checked = !box.checked;
  showLayers();
}

let heatBefore = 65;
function toggleHeat() {
  const heat = Number($("heat").value);
  if (heat) heatBefore = heat;
  $("heat").value = heat ? 0 : heatBefore;
  showLayers();
}

function toggleLayout() {
  const other = document.querySelector("#layout input:not(:checked)");
  other.checked = true;
  resetRows();
}

const COMMON_KEYS = {
  h: toggleHeat,
  1: () => toggleLayer("coarse"),
  2: () => toggleLayer("final"),
  3: () => toggleLayer("truth"),
  "?": () => { if (!$("keys").open) $("keys").showModal(); },
};
const REVIEW_ACTIONS = Object.fromEntries(Object.entries(REVIEW_KEYS).map(([key, verdict]) => [key, () => judge(verdict)]));
const VIEWER_KEYS = {
  ArrowLeft: () => step(-1), k: () => step(-1), ArrowRight: () => step(1), j: () => step(1),
  "+": () => act("zoom-in"), "=": () => act("zoom-in"), "-": () => act("zoom-out"), 0: () => act("fit"),
  r: nextRegion, n: () => $("review-text").focus(), ...REVIEW_ACTIONS,
};
const LIST_KEYS = {
  j: () => focusRow(gallery.current + 1), k: () => focusRow(gallery.current - 1),
  "/": () => $("search").focus(), l: toggleLayout, ...REVIEW_ACTIONS,
};
// Only while the list has the focus, since these move pages and press buttons elsewhere.
const FOCUSED_KEYS = {
  ArrowDown: () => focusRow(gallery.current + gallery.layout.columns), ArrowUp: () => focusRow(gallery.current - gallery.layout.columns),
  Home: () => focusRow(0), End: () => focusRow(gallery.order.length - 1), Enter: openCurrent, " ": openCurrent,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const writes = event.target.matches("input:not([type=checkbox], [type=radio], [type=range]), select, textarea");
  if (writes || (event.target.matches("input") && event.key.length > 1)) return;
  const inList = $("list").contains(document.activeElement) && place().view === "images";
  const keys = {
    ...COMMON_KEYS,
    ...($("viewer").open ? VIEWER_KEYS : place().view === "images" ? LIST_KEYS : {}),
    ...(inList && !$("viewer").open ? FOCUSED_KEYS : {}),
  };
  if (Object.hasOwn(keys, event.key)) {
    event.preventDefault();
    keys[event.key]();
  }
}

startTheme();
startTables();
startFigures();
startGallery();
startViewer();
startReview();
startLayers();
$("help").addEventListener("click", () => $("keys").showModal());
addEventListener("keydown", onKey);
addEventListener("hashchange", () => { scrollTo(0, 0); show(); });
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll(".view.current details")) details.open = true;
  gallery.printed = MOST_PRINTED;
  drawRows();
});
addEventListener("afterprint", () => {
  gallery.printed = 0;
  drawRows();
});
show();
