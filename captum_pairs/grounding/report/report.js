/** Tables that are sorted by any column, and searched. */

/** @param {HTMLTableRowElement} row @param {number} at */
function keyOf(row, at) {
  const cell = row.cells[at];
  const text = cell.dataset.value ?? cell.textContent ?? "";
  return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

/**
 * Numbers before words; what has no value is last, whatever the direction.
 *
 * @param {string | number} one @param {string | number} other @param {number} sign
 */
function compared(one, other, sign) {
  if (one === "" || other === "") {
    return Number(one === "") - Number(other === "");
  }
  if (typeof one === "number" && typeof other === "number") {
    return sign * (one - other);
  }
  return sign * String(one).localeCompare(String(other), undefined, { numeric: true });
}

/** @param {HTMLTableElement} table @param {number} at */
function sort(table, at) {
  const heads = Array.from(table.tHead?.rows[0].cells ?? []);
  const isUp = heads[at].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[at].setAttribute("aria-sort", isUp ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, key: keyOf(row, at) }));
  rows.sort((one, other) => compared(one.key, other.key, isUp ? -1 : 1));
  body.append(...rows.map(({ row }) => row));
}

/** @param {HTMLTableElement} table @param {string} words @param {Element | null} told */
function filter(table, words, told) {
  const wanted = words.trim().toLocaleLowerCase();
  let shown = 0;
  const rows = Array.from(table.tBodies[0].rows);
  for (const row of rows) {
    const named = Array.from(row.querySelectorAll(".words"));
    row.hidden = !named.some((cell) =>
      (cell.textContent ?? "").toLocaleLowerCase().includes(wanted),
    );
    shown += Number(!row.hidden);
  }
  if (told) {
    told.textContent = wanted ? `${shown} of ${rows.length} rows` : "";
  }
}

for (const sheet of document.querySelectorAll(".sheet")) {
  const table = sheet.querySelector("table");
  if (table) {
    table.querySelectorAll("th button").forEach((button, at) => {
      button.addEventListener("click", () => sort(table, at));
    });
    const search = sheet.querySelector("input");
    const told = sheet.querySelector("[role=status]");
    search?.addEventListener("input", () => filter(table, search.value, told));
  }
}
document.documentElement.classList.add("with-script");

// what is folded is printed as well
const folded = /** @type {Set<HTMLDetailsElement>} */ (new Set());
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    folded.add(/** @type {HTMLDetailsElement} */ (part)).forEach((each) => {
      each.open = true;
    });
  }
});
addEventListener("afterprint", () => {
  folded.forEach((part) => {
    part.open = false;
  });
  folded.clear();
});
