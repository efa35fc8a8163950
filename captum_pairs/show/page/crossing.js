/** Two texts: a table of all pairs of words, and lines between those that matched. */

import { AGAINST, colour, FOR, isLight, rgb, shareOf } from "./colours.js";
import { byId, element } from "./elements.js";
import { signed } from "./numbers.js";

// Lines that can still be told from one another.
const MOST_LINES = 16;
const ROW = 26;
// Columns whose numbers have room.
const FEW = 8;

/** What two texts' words made of one another. */
export class Crossing {
  /**
   * @param {Numbers} numbers
   * @param {Pick<Told<Picked>, "point" | "leave" | "pin">} told
   */
  constructor(numbers, told) {
    this.numbers = numbers;
    this.told = told;
    this.counts = numbers.sides.map((side) => side.count);
    /** @type {{line: Element, row: number, column: number}[]} */
    this.lines = [];
    /** @type {HTMLElement[]} */
    this.cells = [];
    const title = `${numbers.pair.names.join(" by ").toLowerCase()}, a table of words`;
    const holder = element("div", {
      class: "table-holder",
      tabindex: "0",
      role: "region",
      "aria-label": title,
    });
    holder.append(this.table());
    byId("crossed").replaceChildren(this.drawing(), holder);
  }

  /** @param {number} row @param {number} column */
  value(row, column) {
    return this.numbers.table[row * this.numbers.sizes[1] + column];
  }

  /** @param {0 | 1} side */
  words(side) {
    return this.numbers.sides[side].names.slice(0, this.counts[side]);
  }

  table() {
    const [rows, columns] = [this.words(0), this.words(1)];
    const head = element("tr", {}, element("td", {}));
    head.append(...columns.map((word) => element("th", { scope: "col" }, word)));
    const lines = rows.map((word, row) => {
      const cells = columns.map((_, column) => {
        const said = signed(this.value(row, column));
        const cell = element("td", { title: said });
        cell.append(element("span", {}, columns.length > FEW ? "" : said));
        this.listen(cell, row, column);
        return cell;
      });
      this.cells.push(...cells);
      return element("tr", {}, element("th", { scope: "row" }, word), ...cells);
    });
    const isSmall = columns.length > FEW ? "words-table small" : "words-table";
    return element("table", { class: isSmall }, head, ...lines);
  }

  /** @param {Element} shape @param {number} row @param {number} column */
  listen(shape, row, column) {
    /** @type {Picked} */
    const selection = { pair: 0, side: 0, features: [row], partner: [column] };
    shape.addEventListener("pointerenter", () => this.told.point(selection));
    shape.addEventListener("pointerleave", () => this.told.leave());
    shape.addEventListener("click", () => this.told.pin(selection));
  }

  /** Words one below the other on both sides, and lines between them. */
  drawing() {
    const height = ROW * Math.max(...this.counts);
    const drawing = element("div", { class: "lines" });
    const svg = drawn("svg", { viewBox: `0 0 100 ${height}`, class: "strokes" });
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const middle = (/** @type {0 | 1} */ side, /** @type {number} */ at) =>
      ((at + 0.5) * height) / this.counts[side];
    for (const { row, column } of this.strongest()) {
      const line = drawn("line", {
        x1: "0",
        x2: "100",
        y1: String(middle(0, row)),
        y2: String(middle(1, column)),
        "vector-effect": "non-scaling-stroke",
      });
      this.listen(line, row, column);
      this.lines.push({ line, row, column });
      svg.append(line);
    }
    const [left, right] = /** @type {const} */ ([0, 1]).map((side) => {
      const words = this.words(side).map((word) => element("li", {}, word));
      return element("ol", { class: "ends", dir: "auto" }, ...words);
    });
    drawing.style.height = `${height}px`;
    drawing.append(left, svg, right);
    return drawing;
  }

  strongest() {
    const [rows, columns] = this.counts;
    const all = Array.from({ length: rows * columns }, (_, at) => {
      const [row, column] = [Math.floor(at / columns), at % columns];
      return { row, column, size: Math.abs(this.value(row, column)) };
    });
    all.sort((a, b) => b.size - a.size);
    return all.slice(0, MOST_LINES).filter(({ size }) => size > 0);
  }

  /** @param {State} state @param {Scale} scale */
  paint({ chosen }, scale) {
    const own = chosen[0];
    const isChosen = (/** @type {number} */ row, /** @type {number} */ column) => {
      const [here, there] = own?.side === 0 ? [row, column] : [column, row];
      return Boolean(
        own?.features.includes(here) &&
        (!own.partner.length || own.partner.includes(there)),
      );
    };
    const limited = { ...scale, limit: this.numbers.greatest };
    const card = rgb(colour("--card"));
    const sides = [colour(AGAINST), colour(FOR)].map(rgb);
    this.cells.forEach((cell, at) => {
      const [row, column] = [Math.floor(at / this.counts[1]), at % this.counts[1]];
      const share = shareOf(this.value(row, column), limited);
      const full = sides[share > 0 ? 1 : 0];
      const mixed = card.map((c, i) => Math.round(c + Math.abs(share) * (full[i] - c)));
      cell.style.backgroundColor = `rgb(${mixed.join(" ")})`;
      cell.style.color = isLight(mixed) ? "#000" : "#fff";
      cell.classList.toggle("chosen", isChosen(row, column));
    });
    for (const { line, row, column } of this.lines) {
      const share = shareOf(this.value(row, column), limited);
      const isFaint = Boolean(own) && !isChosen(row, column);
      line.setAttribute("stroke", `rgb(${colour(share > 0 ? FOR : AGAINST)})`);
      line.setAttribute("stroke-width", (8 * Math.abs(share)).toFixed(2));
      line.setAttribute("stroke-opacity", isFaint ? "0.12" : "0.85");
    }
  }
}

/** @param {string} name @param {Record<string, string>} attributes */
function drawn(name, attributes) {
  const made = document.createElementNS(byId("drawing").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  return made;
}
