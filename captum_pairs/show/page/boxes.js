/** Where the regions of an input lie, in whole parts of its picture. */

// What boxes are whole numbers of; see the Python side.
export const FINENESS = 10000;

/** The boxes of a side's features, and which of them lie where. */
export class Boxes {
  /** @param {Side} side */
  constructor(side) {
    this.side = side;
    this.all = side.boxes ?? gridBoxes(side);
    /** Regions that lie inside of others come after them. */
    this.order = [...this.all.keys()].filter((at) => this.all[at]);
    if (!side.grid) {
      this.order.sort((a, b) => this.area(b) - this.area(a));
    }
  }

  /** @param {number} feature */
  of(feature) {
    return this.all[feature] ?? [0, 0, 0, 0];
  }

  /** @param {number} feature */
  area(feature) {
    const [left, top, right, bottom] = this.of(feature);
    return (right - left) * (bottom - top);
  }

  /**
   * The region at a place; the smallest, if there are several.
   *
   * @param {[number, number]} place
   */
  at([x, y]) {
    const found = this.order.filter((feature) => {
      const [left, top, right, bottom] = this.of(feature);
      return left <= x && x < right && top <= y && y < bottom;
    });
    return found.at(-1) ?? -1;
  }

  /**
   * Patches that a rectangle touches, or regions that lie in it.
   *
   * @param {[number, number]} start
   * @param {[number, number]} end
   */
  within(start, end) {
    const [low, high] = [Math.min, Math.max].map((pick) =>
      [0, 1].map((axis) => pick(start[axis], end[axis])),
    );
    return this.order.filter((feature) => {
      const [left, top, right, bottom] = this.of(feature);
      return this.side.grid
        ? left <= high[0] && right > low[0] && top <= high[1] && bottom > low[1]
        : left >= low[0] && right <= high[0] && top >= low[1] && bottom <= high[1];
    });
  }

  /** @param {number} feature @returns {[number, number]} */
  centre(feature) {
    const [left, top, right, bottom] = this.of(feature);
    return [(left + right) / 2, (top + bottom) / 2];
  }

  /**
   * The patches beside one, nearest first. Where they lie counts, not their number:
   * the rows of a sound begin with its low bands, which are shown below.
   *
   * @param {number} feature
   * @param {number[]} by rows down, columns to the right
   */
  beside(feature, by) {
    const axis = by[1] ? 0 : 1;
    const sign = by[0] + by[1];
    const from = this.centre(feature);
    const ahead = (/** @type {number} */ at) =>
      sign * (this.centre(at)[axis] - from[axis]);
    const box = this.of(feature);
    const level = this.order.filter((at) => {
      const across = this.centre(at)[1 - axis];
      return box[1 - axis] <= across && across < box[3 - axis] && ahead(at) > 0;
    });
    return level.sort((a, b) => ahead(a) - ahead(b));
  }
}

/** Where cells are that lie nowhere in particular. @param {Side} side */
function gridBoxes(side) {
  const [rows, columns] = side.grid ?? [0, 0];
  return Array.from({ length: rows * columns }, (_, at) => {
    const [row, column] = [Math.floor(at / columns), at % columns];
    return [column / columns, row / rows, (column + 1) / columns, (row + 1) / rows].map(
      (edge) => Math.round(edge * FINENESS),
    );
  });
}
