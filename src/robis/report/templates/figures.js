// The figures of a group, from its data file.
const figures = { group: -1, list: [] };

function startFigures() {
  options($("figures-group"), data.groups.map((group, n) => [n, `${group.category} / ${group.split}`]));
  $("figures-group").addEventListener("change", (event) => go("figures", Number(event.target.value)));
  $("figures-run").addEventListener("change", drawFigures);
  $("figures").addEventListener("click", (event) => {
    const dot = event.target.closest("[data-sample]");
    if (!dot) return;
    const group = data.groups[figures.group];
    const run = group.runs.findIndex(({ name }) => name === dot.closest("figure").dataset.run);
    openGallery(figures.group, run, -1).then(() => {
      showViewer(Number(dot.dataset.sample), [Number(dot.dataset.sample)]);
    }).catch(trouble);
  });
}

async function showFigures(group) {
  if (figures.group === group) return;
  figures.group = group;
  $("figures-group").value = group;
  const list = await robis.load(data.groups[group], "figures");
  if (figures.group !== group) return;
  figures.list = list;
  const runs = [...new Set(list.map((figure) => figure.run).filter(Boolean))];
  const before = $("figures-run").value;
  options($("figures-run"), [["", "all"], ...runs.map((run) => [run, run])], before || (runs.length > 3 ? runs[0] : ""));
  $("figures-run-label").hidden = runs.length < 2;
  drawFigures();
}

function drawFigures() {
  const chosen = $("figures-run").value;
  const groups = new Map();
  for (const figure of figures.list) {
    if (figure.run && chosen && figure.run !== chosen) continue;
    const title = figure.run ?? "";
    if (!groups.has(title)) groups.set(title, []);
    groups.get(title).push(figure);
  }
  const sections = [...groups].map(([run, list]) => make("section", { "aria-label": run || "All runs" },
    run ? make("h3", { textContent: run }) : null,
    make("div", { className: "figure-grid" }, ...list.map(figureCard))));
  if (!sections.length) sections.push(make("p", { className: "aside", textContent: "No figures: no metric is defined here." }));
  $("figures").replaceChildren(...sections);
}

function figureCard(figure) {
  const picture = make("div", { className: "picture" });
  // Parsed as SVG, so that it can hold no other markup.
  const parsed = new DOMParser().parseFromString(figure.svg, "image/svg+xml");
  picture.append(document.importNode(parsed.documentElement, true));
  return make("figure", { className: "card", "data-run": figure.run ?? "" },
    make("h4", { textContent: figure.title }),
    picture,
    make("figcaption", {},
      make("p", { textContent: figure.caption }),
      make("p", { className: "files" },
        make("a", { href: `${figure.file}.svg`, textContent: "SVG" }), " ",
        make("a", { href: `${figure.file}.png`, textContent: "PNG" }))));
}
