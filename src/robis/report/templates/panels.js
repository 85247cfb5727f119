// Panels of an image: the image alone, under its heatmap, and under outlines of masks.
const UNITS = 8; // of an outline, per pixel of its picture
const CHUNK = 64;
const SVG = "http://www.w3.org/2000/svg";

function svgElement(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function picturePath(group, row, run) {
  return `${group.folder}/images/${row}${run ? `-${run.file}` : ""}.jpg`;
}

// A stack of layers over an image. `mark` lists the outlines: [layer, run or null for the ground truth]; ignored pixels are always drawn.
function makeStack(view, row, { run = null, heat = false, mark = [], alt }) {
  const { group, samples } = view;
  const [width, height] = [samples.width[row], samples.height[row]];
  const stack = make("div", { className: heat ? "stack gray" : "stack", style: { "--width": width, "--height": height } });
  stack.append(make("img", { src: picturePath(group, row), width, height, alt, decoding: "async", className: "base" }));
  if (heat) {
    stack.append(make("img", { src: picturePath(group, row, run), width, height, alt: "", decoding: "async", className: "heat" }));
  }
  if (samples.ignored[row]) mark = [["ignored", null], ...mark];
  if (mark.length) {
    const svg = svgElement("svg", { viewBox: `0 0 ${width * UNITS} ${height * UNITS}`, class: "marks", "aria-hidden": "true" });
    stack.append(svg);
    for (const [layer, of] of mark) drawOutline(svg, group, row, layer, of).catch(trouble);
  }
  return stack;
}

async function drawOutline(svg, group, row, layer, run) {
  const part = svgElement("g", { class: layer === "final" && keptMask(run, row) ? "final kept" : layer });
  svg.append(part);
  const name = run ? `${run.file}-masks` : layer;
  const chunk = await robis.load(group, `${name}-${Math.floor(row / CHUNK)}`);
  const outline = run ? chunk[row % CHUNK]?.[layer === "coarse" ? 0 : 1] : chunk[row % CHUNK];
  if (!outline) return;
  const [path, rings, leftOut] = typeof outline === "string" ? [outline, [], 0] : outline;
  part.append(svgElement("path", { d: path, class: "rim" }), svgElement("path", { d: path }));
  for (const [cx, cy] of layer === "coarse" ? [] : rings) {
    part.append(svgElement("circle", { cx, cy, class: "rim" }), svgElement("circle", { cx, cy }));
  }
  if (leftOut) svg.parentElement.title = `The ${leftOut} smallest regions are not outlined.`;
}

// The heatmap's scale with a tick at the threshold.
function scaleBar(run, row) {
  const [low, high] = data.vis === "single" ? [run.low[row], run.high[row]] : [0, data.heatRange];
  if (run.threshold[row] === null) return make("i", { className: "colormap", title: "No threshold is known" });
  const at = high > low ? Math.min(1, Math.max(0, (run.threshold[row] - low) / (high - low))) : 0;
  const title = `Colors from ${number(low)} to ${number(high)}; threshold ${number(run.threshold[row])}`;
  return make("i", { className: "colormap", title, style: { "--at": at.toFixed(4) } });
}

function figurePanel(stack, ...caption) {
  return make("figure", {}, make("div", { className: "well" }, stack), make("figcaption", {}, ...caption));
}

function emptyPanel(text, caption) {
  return make("figure", {},
    make("div", { className: "well empty" }, make("p", { textContent: text })),
    make("figcaption", {}, caption));
}

function truthPanel(view, row) {
  const { samples } = view;
  if (samples.area[row] === null) {
    const text = { normal: "Normal image: no defect", anomalous: "Anomalous image without a ground-truth mask" };
    return emptyPanel(text[samples.label[row]] ?? "No ground truth", "Ground truth");
  }
  const stack = makeStack(view, row, { mark: [["truth", null]], alt: `Ground truth of ${samples.id[row]} over the image` });
  stack.classList.add("own-truth");
  return figurePanel(stack, "Ground truth");
}

function runPanels(view, row, run, named) {
  const name = view.samples.id[row];
  const of = named ? `${run.name}: ` : "";
  if (run.result[row] === null) {
    return [emptyPanel(`${run.name} does not have this image`, `${of}map`), emptyPanel("", `${of}masks`)];
  }
  const map = makeStack(view, row, { run, heat: true, alt: `Anomaly map of ${name} by ${run.name} over the image` });
  const masks = makeStack(view, row, {
    run, mark: [["coarse", run], ["final", run], ["truth", null]], alt: `Coarse and final mask of ${name} by ${run.name} over the image`,
  });
  return [
    figurePanel(map, make("span", { textContent: named ? `${of}map` : "Anomaly map", title: run.name }), scaleBar(run, row)),
    figurePanel(masks, make("span", { textContent: masksCaption(run, row, named), title: run.name })),
  ];
}

function masksCaption(run, row, named) {
  const masks = named ? `${run.name}: masks` : keptMask(run, row) ? "Masks" : "Coarse and final mask";
  return keptMask(run, row) ? `${masks}, judged normal` : masks;
}

// The panels of an image for one run, or for two side by side; `full` has separate panels for the image and its ground truth.
function panelsOf(view, row, full) {
  const { a, b } = view;
  const image = () => figurePanel(makeStack(view, row, { alt: `Image ${view.samples.id[row]}` }), "Image");
  if (!b) return [image(), ...runPanels(view, row, a, false), truthPanel(view, row)];
  if (full) return [image(), ...runPanels(view, row, a, true), truthPanel(view, row), ...runPanels(view, row, b, true)];
  const stack = makeStack(view, row, { mark: [["truth", null]], alt: `Image ${view.samples.id[row]} with its ground truth` });
  stack.classList.add("own-truth");
  // The runs are named above their panels.
  return [figurePanel(stack, "Image, ground truth"), ...runPanels(view, row, a, false), ...runPanels(view, row, b, false)];
}

// Whether the final mask of an image that is judged normal marks something all the same.
function keptMask(run, row) {
  return run.judged[row] === false && run.regions[row] > 0;
}

function badge(result) {
  return make("span", { className: `badge ${slug(result)}`, title: data.results[result], textContent: result });
}

function marginTitle(run) {
  if (!run.limit) return "No limit: no good images were held out. Judged anomalous if the final mask is not empty.";
  return `Score before re-scoring minus the limit ${number(run.limit.value)}: ${run.limit.words}. Judged anomalous if above 0.`;
}

// Facts of an image in one run, as terms and values.
function factsOf(run, row) {
  const votes = [["mean + std", run.meanStd[row]], ["MEBin", run.mebin[row]]].filter(([, value]) => value !== null);
  const interval = run.stableFirst[row] === null ? "" : `; stable from level ${run.stableFirst[row]} to ${run.stableLast[row]}`;
  return [
    ["SegF1", run.segF1[row] === null ? "–" : percent(run.segF1[row]), "F1 of the final mask's pixels in this image, in percent"],
    ["Score", rounded(run.score[row]), String(run.score[row] ?? "not known")],
    ["Margin", rounded(run.margin[row]), marginTitle(run)],
    ["Threshold", rounded(run.threshold[row]), `${votes.map(([name, value]) => `${name} ${number(value)}`).join(", ") || (run.threshold[row] ?? "not known")}${interval}`],
    ["Regions", String(run.regions[row]), "Number of connected regions of the final mask"],
  ];
}

function factList(run, row) {
  return make("dl", {}, ...factsOf(run, row).map(([term, value, title]) =>
    make("div", { title }, make("dt", { textContent: term }), make("dd", { textContent: value }))));
}

function labelText(samples, row) {
  const label = samples.label[row] ?? "no label";
  const defect = samples.defect[row];
  return defect && label !== "normal" ? `${label} · ${defect}` : label;
}
