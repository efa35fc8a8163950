/** The patches of a picture for the keyboard and for screen readers. */

import { FINENESS } from "./boxes.js";
import { element, isPress, step } from "./elements.js";

/** Of all the patches one is an element: the one that the keyboard is at. Two of them take
 * turns, so that focus moves and a screen reader says where it is. */
export class Cells {
  /** @param {Boxes} boxes @param {string} name @param {Told} told */
  constructor(boxes, name, told) {
    this.boxes = boxes;
    this.told = told;
    /** The cell that a selection by keys began at. @type {number | null} */
    this.anchor = null;
    this.cell = boxes.order[0] ?? 0;
    this.cells = [0, 1].map(() => element("div", { role: "gridcell", class: "cell" }));
    const lines = this.cells.map((cell) => element("div", { role: "row" }, cell));
    const [rows, columns] = boxes.side.grid ?? [1, 1];
    this.element = element(
      "div",
      {
        role: "grid",
        "aria-label": `${name}: patches`,
        "aria-rowcount": String(rows),
        "aria-colcount": String(columns),
        "aria-describedby": "keys",
      },
      ...lines,
    );
    this.put(0, this.cell);
    lines[1].hidden = true;
    this.listen();
  }

  listen() {
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("focusin", () => {
      this.told[this.anchor === null ? "point" : "drag"](this.block());
    });
    this.element.addEventListener("focusout", (event) => {
      if (!this.cells.includes(/** @type {HTMLDivElement} */ (event.relatedTarget))) {
        this.anchor = null;
      }
      this.told.leave();
    });
  }

  /** @param {number} which @param {number} feature */
  put(which, feature) {
    const cell = this.cells[which];
    const box = this.boxes.all[feature];
    if (!cell.parentElement || !box) {
      return;
    }
    const columns = this.boxes.side.grid?.[1] ?? 1;
    const row = Math.floor(feature / columns) + 1;
    cell.parentElement.hidden = false;
    cell.parentElement.setAttribute("aria-rowindex", String(row));
    cell.setAttribute("aria-colindex", String((feature % columns) + 1));
    cell.setAttribute("aria-label", this.told.describe(feature));
    cell.dataset.feature = String(feature);
    cell.tabIndex = 0;
    const edges = {
      left: box[0],
      top: box[1],
      width: box[2] - box[0],
      height: box[3] - box[1],
    };
    for (const [edge, value] of Object.entries(edges)) {
      cell.style.setProperty(edge, `${(100 * value) / FINENESS}%`);
    }
  }

  /** Patches between the anchor and the keyboard's. */
  block() {
    const { boxes, anchor, cell } = this;
    return anchor === null
      ? [cell]
      : boxes.within(boxes.centre(anchor), boxes.centre(cell));
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (isPress(event)) {
      event.preventDefault();
      this.told.pin(this.block());
      return;
    }
    const by = step(event);
    const isEnd = event.key === "Home" || event.key === "End";
    if (!by && !isEnd) {
      return;
    }
    event.preventDefault();
    const found = this.boxes.beside(
      this.cell,
      by ?? [0, event.key === "Home" ? -1 : 1],
    );
    this.anchor = event.shiftKey ? (this.anchor ?? this.cell) : null;
    this.moveTo(found.at(isEnd ? -1 : 0) ?? this.cell);
  }

  /** @param {number} feature */
  moveTo(feature) {
    if (!this.boxes.all[feature] || feature === this.cell) {
      return;
    }
    const old = document.activeElement === this.cells[0] ? 0 : 1;
    this.cell = feature;
    this.put(1 - old, feature);
    this.cells[1 - old].focus({ preventScroll: true });
    const line = this.cells[old].parentElement;
    if (line) {
      line.hidden = true;
    }
    this.cells[1 - old].scrollIntoView({ block: "nearest" });
  }
}
