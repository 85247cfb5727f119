// The page is complete without this: it only filters by result and fades the anomaly maps.
const controls = document.querySelector(".controls");
const boxes = [...controls.querySelectorAll("input[type=checkbox]")];

function filter() {
  const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  for (const gallery of document.querySelectorAll(".gallery")) {
    const samples = [...gallery.querySelectorAll(".sample")];
    for (const sample of samples) sample.hidden = !shown.has(sample.dataset.result);
    gallery.querySelector(".filtered").hidden = !samples.length || samples.some((sample) => !sample.hidden);
  }
}

function fade() {
  const slider = controls.querySelector("input[type=range]");
  document.documentElement.style.setProperty("--heat", slider.value / 100);
}

for (const box of boxes) box.addEventListener("change", filter);
controls.querySelector("input[type=range]").addEventListener("input", fade);
controls.hidden = false;
// Browsers keep the state of controls over a reload.
filter();
fade();
