/** Two hits that are ticked, and what the one has before the other. */

import { byId, element } from "./elements.js";

/** A box beside each hit, and a button that compares the two whose boxes are ticked. */
export class Comparing {
  /** @param {Content} content @param {(of: [number, number]) => void} open */
  constructor(content, open) {
    this.content = content;
    /** Those that are ticked, the latest last. @type {number[]} */
    this.ticked = [];
    /** @type {Map<number, HTMLInputElement>} */
    this.boxes = new Map();
    this.button = /** @type {HTMLButtonElement} */ (byId("compare"));
    byId("comparing").hidden = !content.compared?.length;
    this.button.addEventListener("click", () => {
      const [a, b] = [...this.ticked].sort((one, other) => one - other);
      open([a, b]);
    });
  }

  /** Whether a hit can be compared with others. @param {number} at */
  takes(at) {
    return (this.content.compared ?? []).some(({ of }) => of.includes(at));
  }

  /** @param {number} at @param {string} label */
  boxOf(at, label) {
    const box = element("input", {
      type: "checkbox",
      "aria-label": `Compare ${label}`,
    });
    box.addEventListener("change", () => this.tick(at, box.checked));
    this.boxes.set(at, box);
    return element("label", { class: "tick" }, box);
  }

  /** A third one takes the place of the first. @param {number} at @param {boolean} is */
  tick(at, is) {
    const others = this.ticked.filter((each) => each !== at);
    this.ticked = is ? [...others.slice(-1), at] : others;
    this.show();
  }

  /** Ticks these two. @param {[number, number]} of */
  set(of) {
    this.ticked = [...of];
    this.show();
  }

  show() {
    for (const [at, box] of this.boxes) {
      box.checked = this.ticked.includes(at);
    }
    this.button.disabled = this.ticked.length < 2;
    const left = ["Tick two hits", "Tick one more", ""];
    byId("compared").textContent = left[this.ticked.length];
  }

  /** The entry of two hits, if there is one. @param {[number, number]} of @returns {Entry | null} */
  entryOf(of) {
    const found = this.content.compared?.find((each) => String(each.of) === String(of));
    if (!found) {
      return null;
    }
    const pairs = found.of.map((at, which) => ({
      ...this.content.entries[at].pairs[0],
      title: found.titles[which],
    }));
    return { ...found.entry, pairs };
  }
}
