"use strict";
// Sorting: a heading's button orders the rows of the first body; rows without a value stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const value = (row) => row.children[column].dataset.sort;
    const numeric = head.classList.contains("n");
    const counts = (a, b) => numeric || !(isNaN(a) || isNaN(b));
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((first, second) => {
      const a = value(first), b = value(second);
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = counts(a, b) ? Number(a) - Number(b) : a.localeCompare(b);
      return descending ? -order : order;
    });
    body.append(...rows);
  });
}
// Filtering: every word must occur in the row.
for (const label of document.querySelectorAll(".filter")) {
  label.hidden = false;
  const table = document.getElementById(label.dataset.table);
  label.querySelector("input").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase().replaceAll("˜", "\u0303");
      row.hidden = !wanted.every((word) => text.includes(word));
    }
  });
}
// Every printed number says its exact value, and how many images it was computed from.
for (const entry of document.querySelectorAll("[data-value]")) {
  const { value, n } = entry.dataset;
  entry.title = n ? `${value}, n = ${n}` : value;
}
