// Examples of clusters: each opens its image at its region, and the arrow keys go on to the others of its sheet.
function openExample(link) {
  const { group, run, example, region } = link.dataset;
  const sheet = link.closest("ul").querySelectorAll(`[data-group="${group}"]`);
  const rows = [...new Set([...sheet].map((other) => Number(other.dataset.example)))];
  openGallery(Number(group), Number(run), -1).then(() => {
    showViewer(Number(example), rows);
    review.region = Number(region);
    drawViewerReview();
  }).catch(trouble);
}

document.querySelector("[data-view=clusters]").addEventListener("click", (event) => {
  const link = event.target.closest("a[data-example]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  openExample(link);
});
