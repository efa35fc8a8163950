/** An input as it stands on the page. */

import { element } from "./elements.js";
import { Regions } from "./regions.js";
import { Words } from "./words.js";

/** An input: its picture or its words, and features that are in neither. */
export class Panel {
  /**
   * @param {Numbers} numbers
   * @param {SideIndex} index
   * @param {string[]} pictures
   * @param {boolean} isQuery of a contrast, which stands there once for both pairs
   * @param {Told} told
   */
  constructor(numbers, index, pictures, isQuery, told) {
    this.numbers = numbers;
    this.index = index;
    this.side = numbers.sides[index];
    this.words = new Words(told);
    /** @type {Regions | null} */
    this.regions = null;
    const name = numbers.pair.names[index];
    const { title } = numbers.pair;
    this.name = title && !isQuery ? title : name;
    this.element = element("section", { class: "card panel", "aria-label": this.name });
    this.element.append(element("h2", { class: "panel-title" }, this.name));
    const { picture, boxes, grid } = this.side;
    if (boxes || grid) {
      const uri = picture === null ? null : pictures[picture];
      this.regions = new Regions(this.side, uri, name, told);
      this.element.append(this.regions.element);
    }
    this.element.classList.add(this.regions ? "seen" : "read");
    this.addExtent();
    this.addText(name);
    this.addOthers(name);
  }

  addExtent() {
    const { extent, kind, label } = this.side;
    if (!this.regions || !extent) {
      return;
    }
    const all = this.numbers.edges(this.index, this.regions.boxes.order);
    const bands = kind === "audio" ? ", low bands below" : "";
    this.element.append(
      element("p", { class: "extent" }, `${label}; shown: ${all}${bands}`),
    );
  }

  /** @param {string} name */
  addText(name) {
    const { pieces, text } = this.side;
    if (!pieces) {
      if (text) {
        this.element.append(element("p", { class: "words", dir: "auto" }, text));
      }
      return;
    }
    const group = element("div", {
      class: text.length > 160 ? "words long" : "words",
      role: "group",
      "aria-label": `Words of ${name.toLowerCase()}`,
      "aria-describedby": "keys",
      dir: "auto",
    });
    for (const [piece, feature] of pieces) {
      group.append(feature < 0 ? piece : this.words.mark(feature, piece));
    }
    this.words.listen(group);
    this.element.append(group);
  }

  /** Features that are in no picture and in no text. @param {string} name */
  addOthers(name) {
    const { grid, count, kind } = this.side;
    const all = [...Array(this.numbers.sizes[this.index]).keys()];
    const left = all.filter((at) => !this.words.marks.has(at) && !(grid && at < count));
    if (!left.length) {
      return;
    }
    const isSpecial = left.every((at) => at >= count);
    const title = isSpecial ? "Special tokens" : kind === "text" ? "Tokens" : "Regions";
    const group = element("div", {
      class: "others",
      role: "group",
      "aria-label": `${title} of ${name.toLowerCase()}`,
      "aria-describedby": "keys",
    });
    group.append(element("span", {}, `${title}:`));
    const words = new Words(this.words.told);
    for (const feature of left) {
      const said = grid ? this.side.names[feature - count] : this.side.names[feature];
      group.append(words.mark(feature, said));
    }
    words.listen(group);
    this.others = words;
    this.element.append(group);
    if (isSpecial && this.numbers.hasBrightTokens(this.index)) {
      this.element.append(
        element(
          "p",
          { class: "aside" },
          `Special tokens stand for no part of ${name.toLowerCase()}: the model ` +
            "gathers there what it makes of the whole, and what matches them can be " +
            "told of the whole only.",
        ),
      );
    }
  }

  /**
   * @param {ArrayLike<number> | null} values
   * @param {Scale} scale
   * @param {number[]} selected
   * @param {number[]} partner
   * @param {boolean} isPinned
   */
  paint(values, scale, selected, partner, isPinned) {
    const sets = [new Set(selected), new Set(partner)];
    this.regions?.canvas.paint(values, scale, sets[0], sets[1]);
    this.words.paint(values, scale, sets[0], sets[1], isPinned);
    this.others?.paint(values, scale, sets[0], sets[1], isPinned);
  }
}
