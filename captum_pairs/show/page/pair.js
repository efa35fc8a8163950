/** The numbers of a pair, and what its features are called. */

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
    this.sizes = this.sides.map(
      (side) => (side.grid ? side.count : 0) + side.names.length,
    );
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
    if (kind === "audio") {
      return this.place(side, [feature]);
    }
    const row = Math.floor(feature / grid[1]) + 1;
    return `row ${row}, column ${(feature % grid[1]) + 1}`;
  }

  /**
   * Where a feature lies, in the original's units.
   *
   * @param {SideIndex} side
   * @param {number[]} features
   */
  place(side, features) {
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
    return `x ${x.map(Math.round).join("–")}, y ${y.map(Math.round).join("–")} px`;
  }

  /** Features in words. @param {SideIndex} side @param {number[]} features */
  describe(side, features) {
    const { kind, names, grid, count } = this.sides[side];
    const where = this.place(side, features);
    const after = where && ` (${where})`;
    if (!features.length) {
      return "nothing";
    }
    if (features.length === 1) {
      return this.name(side, features[0]) + (grid && kind !== "audio" ? after : "");
    }
    if (grid && features.every((feature) => feature < count)) {
      return `${features.length} patches${after}`;
    }
    const said = features.map((feature) =>
      grid ? this.name(side, feature) : names[feature],
    );
    return kind === "text" ? quoted(said.join(" ")) : said.join(", ");
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
