// Sorts tables by a column, shows a single metric's matrix at a time, and single seeds on demand.
function sortTable(table, heading) {
  const column = Number(heading.dataset.column);
  const before = heading.getAttribute("aria-sort");
  for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  const body = table.querySelector("tbody.sorted");
  const rows = [...body.rows];
  const keys = new Map(rows.map((row) => [row, sortKey(row.cells[column])]));
  const numeric = rows.some((row) => typeof keys.get(row) === "number");
  const down = before ? before === "ascending" : numeric;
  const sign = down ? -1 : 1;
  rows.sort((row, other) => {
    const [a, b] = [keys.get(row), keys.get(other)];
    // Undefined values go last in both directions.
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  });
  body.append(...rows);
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
}

function sortKey(cell) {
  const value = cell.querySelector("data");
  if (value) return Number(value.value);
  return cell.tagName === "TH" || cell.classList.contains("text") ? cell.textContent.trim() : null;
}

function startTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    table.addEventListener("click", (event) => {
      const button = event.target.closest("thead button");
      if (button) sortTable(table, button.closest("th"));
    });
  }
  for (const box of document.querySelectorAll(".matrices")) {
    const select = box.querySelector("[data-matrix]");
    const pick = () => {
      for (const table of box.querySelectorAll("table")) table.hidden = table.dataset.metric !== select.value;
    };
    select.addEventListener("change", pick);
    box.querySelector(".pick").hidden = false;
    pick();
  }
  for (const box of document.querySelectorAll("[data-seeds]")) {
    const section = box.closest(".split");
    const toggle = () => section.classList.toggle("with-seeds", box.checked);
    box.addEventListener("change", toggle);
    toggle();
  }
}
