// Why regions were marked: the most similar normal patches, or how badly the region is rebuilt.
async function drawEvidence(row) {
  const { group, a } = gallery.view;
  const box = $("viewer-evidence");
  box.hidden = true;
  if (!a.explained) return;
  const regions = (await robis.load(group, `${a.file}-evidence`))[row];
  if (!regions || row !== viewer.row || gallery.view.a !== a || !$("viewer").open) return;
  box.replaceChildren(...regions.map((region) => evidenceOf(group, row, region)));
  if (gallery.versus >= 0) box.prepend(make("p", { className: "of-run", textContent: `Regions of ${group.runs[gallery.run].name}` }));
  if (regions.length < regionsOf(row).length) {
    box.append(make("p", { className: "aside", textContent: `The ${regions.length} largest regions of ${a.regions[row]}.` }));
  }
  box.scrollTop = 0;
  box.hidden = false;
  arrangeLenses();
}

function evidenceOf(group, row, region) {
  const name = `Region ${region.region}`;
  const choose = make("button", { type: "button", textContent: name, title: "Show it in the image" });
  choose.addEventListener("click", () => {
    review.region = region.region - 1;
    drawViewerReview();
  });
  const marked = evidencePicture(group, region.picture, `${name} of ${gallery.view.samples.id[row]}; the small frame is its most unusual token`, [choose]);
  const beside = region.groups ? [rebuiltOf(region.groups)] : region.normal.map((patch, n) => normalOf(group, patch, n));
  if (!beside.length) beside.push(make("p", { textContent: `nearest to a confirmed false alarm, distance ${rounded(region.distance)}` }));
  return make("article", { className: "evidence", "aria-label": name }, marked, ...beside);
}

function evidencePicture(group, file, alt, caption) {
  return make("figure", {}, make("img", { src: `${group.folder}/images/${file}`, alt, width: 128, height: 128 }),
    make("figcaption", {}, ...caption));
}

function normalOf(group, patch, n) {
  const place = `${patch.id} at (${patch.x}, ${patch.y})`;
  const order = ["Most similar", "2nd", "3rd"][n];
  return evidencePicture(group, patch.picture, `Normal image ${place}`,
    [make("b", { textContent: `${order} normal: ` }), `${place}, distance ${rounded(patch.distance)}`]);
}

// Of each group of layers the region's distance, and below it what 99 % of the tokens of normal images stay below.
function rebuiltOf(groups) {
  const longest = Math.max(...groups.flatMap((group) => [group.distance, group.normal_99 ?? 0]));
  const bar = (value, className) => make("i", { className, style: { width: `${100 * value / (longest || 1)}%` } });
  return make("div", { className: "rebuilt" }, ...groups.flatMap(({ group, distance, normal_99: usual, percentile }) => [
    make("p", { textContent: `Layers, group ${group}: ${rounded(distance)}` + (usual === null ? ""
      : `, above ${rounded(percentile)} % of normal tokens; 99 % of them are below ${rounded(usual)}`) }),
    make("div", { "aria-hidden": "true" }, bar(distance, "region"), usual === null ? null : bar(usual, "normal")),
  ]));
}
