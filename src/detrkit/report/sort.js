// Sorts a table by the column whose heading is pressed: figures from high to low first, names from A to Z.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const figureOf = (text) => (text === "–" ? -Infinity : Number(text.replaceAll(",", "").replace("−", "-")));
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const isText = heading.classList.contains("text");
      const before = heading.getAttribute("aria-sort");
      const first = isText ? "ascending" : "descending";
      const second = isText ? "descending" : "ascending";
      const direction = before === first ? second : first;
      const sign = direction === "ascending" ? 1 : -1;
      const keyed = [...body.rows].map((row) => {
        const text = row.cells[column].textContent;
        return [isText ? text : figureOf(text), row];
      });
      keyed.sort(([a], [b]) => sign * (isText ? a.localeCompare(b) : a === b ? 0 : a - b));
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", direction);
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
