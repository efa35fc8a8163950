/** The numbers of a pair, and what its features are called. */

import { sizeOf } from "./address.js";
import { FINENESS } from "./boxes.js";
import { shown } from "./colours.js";
import { quoted, signed, unpacked } from "./numbers.js";

const STRONGEST = 3;

/** A pair's table, and what its features are called. */
export class Numbers {
  /** @param {Pair} pair @param {Side[]} sides */
  constructor(pair, sides) {
    this.pair = pair;
    this.sides = pair.sides.map((at) => sides[at]);
    this.sizes = this.sides.map(sizeOf);
    this.table = unpacked(pair.table);
    this.effects = pair.effects.map((packed) => packed && unpacked(packed));
    /** What every feature of a side matched in the other one, without its special
     * tokens. */
    this.totals = [0, 1].map((side) => {
      const other = /** @type {SideIndex} */ (1 - side);
      return this.against(other, [...Array(this.sides[other].count).keys()]);
    });
    this.greatest = this.strongestPair();
  }

  /** Whether a special token of a side matched more than half as much as what is
   * strongest of the input itself. @param {SideIndex} side */
  hasBrightTokens(side) {
    const { count } = this.sides[side];
    const sizes = Array.from(this.totals[side], Math.abs);
    const most = (/** @type {number[]} */ some) => Math.max(0, ...some);
    return most(sizes.slice(count)) > 0.5 * most(sizes.slice(0, count));
  }

  /** Of pairs without a special token. */
  strongestPair() {
    const [rows, columns] = this.sides.map((side) => side.count);
    let most = 0;
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        most = Math.max(most, Math.abs(this.table[row * this.sizes[1] + column]));
      }
    }
    return most;
  }

  /**
   * What features of a side matched in each feature of the other side.
   *
   * @param {SideIndex} side
   * @param {number[]} features
   */
  against(side, features) {
    const values = new Float64Array(this.sizes[1 - side]);
    const columns = this.sizes[1];
    const [stepOwn, stepOther] = side === 0 ? [columns, 1] : [1, columns];
    for (const feature of features) {
      for (let at = 0; at < values.length; at += 1) {
        values[at] += this.table[feature * stepOwn + at * stepOther];
      }
    }
    return values;
  }

  /** @param {SideIndex} side @param {number} feature */
  name(side, feature) {
    const { grid, count, names, kind } = this.sides[side];
    if (!grid) {
      return kind === "text" && feature < count
        ? quoted(names[feature])
        : names[feature];
    }
    if (feature >= count) {
      return names[feature - count];
    }
    const place = this.place(side, [feature]);
    if (place) {
      return place;
    }
    const row = Math.floor(feature / grid[1]) + 1;
    return `row ${row}, column ${(feature % grid[1]) + 1}`;
  }

  /**
   * Where features lie, in words and in the original's units.
   *
   * @param {SideIndex} side
   * @param {number[]} features
   */
  place(side, features) {
    return this.edges(side, features, true);
  }

  /**
   * @param {SideIndex} side
   * @param {number[]} features
   * @param {boolean} isNamed in which part of the whole it is, too
   */
  edges(side, features, isNamed = false) {
    const { boxes, extent, kind } = this.sides[side];
    const own = features.flatMap((feature) =>
      boxes?.[feature] ? [boxes[feature]] : [],
    );
    if (!extent || !own.length) {
      return "";
    }
    const part = (/** @type {number} */ at) =>
      Math[at < 2 ? "min" : "max"](...own.map((box) => box[at])) / FINENESS;
    const [left, top, right, bottom] = extent;
    const x = [part(0), part(2)].map((share) => left + share * (right - left));
    const [down, up] = [part(1), part(3)];
    if (kind === "audio") {
      const bands = [1 - up, 1 - down].map((share) => top + share * (bottom - top));
      return `${x[0].toFixed(2)}–${x[1].toFixed(2)} s, mel ${bands.map(Math.round).join("–")}`;
    }
    const y = [down, up].map((share) => top + share * (bottom - top));
    const edges = `x ${x.map(Math.round).join("–")}, y ${y.map(Math.round).join("–")} px`;
    return isNamed ? `${this.third(side, x, y)} (${edges})` : edges;
  }

  /**
   * In which part of the whole a place has its centre, as everywhere in this package.
   *
   * @param {SideIndex} side
   * @param {number[]} x left and right
   * @param {number[]} y top and bottom
   */
  third(side, x, y) {
    const size = this.sides[side].size ?? [1, 1];
    const [column, row] = [x, y].map(([low, high], axis) =>
      Math.min(Math.floor((1.5 * (low + high)) / size[axis]), 2),
    );
    const words = [["top", "", "bottom"][row], ["left", "", "right"][column]];
    return words.join(" ").trim() || "centre";
  }

  /** Features in words. @param {SideIndex} side @param {number[]} features */
  describe(side, features) {
    const { kind, names, grid, count } = this.sides[side];
    const where = this.place(side, features);
    if (!features.length) {
      return "nothing";
    }
    if (features.length === 1) {
      return this.name(side, features[0]);
    }
    if (grid && features.every((feature) => feature < count)) {
      return `${features.length} patches${where && `, ${where}`}`;
    }
    const said = features.map((feature) =>
      grid ? this.name(side, feature) : names[feature],
    );
    return kind === "text" ? quoted(said.join(" ")) : said.join(", ");
  }

  /** Words and a place, as the list of the strongest pairs names them. @param {Chosen} own */
  describePair({ side, features, partner }) {
    const groups = side === 0 ? [features, partner] : [partner, features];
    const said = groups.map((group, at) => {
      const own = /** @type {SideIndex} */ (at);
      const isPlace =
        this.sides[at].grid && group.every((i) => i < this.sides[at].count);
      return (isPlace && this.place(own, group)) || this.describe(own, group);
    });
    const kinds = this.sides.map(({ kind }) => kind === "text");
    // the word is read first
    return (!kinds[0] && kinds[1] ? said.reverse() : said).join(" – ");
  }

  /**
   * The features with the strongest values that a sign filter leaves, in words.
   *
   * @param {SideIndex} side
   * @param {ArrayLike<number>} values
   * @param {string} sign
   */
  strongest(side, values, sign) {
    const order = Array.from(values, (value, index) => ({ value, index }))
      .filter(
        ({ value, index }) => index < this.sides[side].count && shown(value, sign),
      )
      .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
    return order
      .slice(0, STRONGEST)
      .map(({ value, index }) => `${this.name(side, index)} ${signed(value)}`)
      .join(" · ");
  }
}
