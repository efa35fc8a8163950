/** The list of explanations that a page has. */

import { Comparing } from "./comparing.js";
import { byId, element, step } from "./elements.js";
import { signed } from "./numbers.js";

/** A button for each, and steps from one to the next. */
export class Entries {
  /**
   * @param {Content} content
   * @param {(at: number) => void} open
   * @param {(of: [number, number]) => void} compare
   */
  constructor(content, open, compare) {
    const { entries } = content;
    this.comparing = new Comparing(content, compare);
    this.last = entries.length - 1;
    this.at = 0;
    byId("list").hidden = entries.length < 2;
    byId("page").classList.toggle("with-list", entries.length > 1);
    this.buttons = entries.map((entry, at) => {
      const made = buttonOf(entry, thumbnail(entry, content));
      made.addEventListener("click", () => open(at));
      return made;
    });
    byId("entries").append(...this.buttons.map((made, at) => this.item(made, at)));
    this.comparing.show();
    byId("previous").addEventListener("click", () => open(this.at - 1));
    byId("next").addEventListener("click", () => open(this.at + 1));
    byId("entries").addEventListener("keydown", (event) => {
      const by = event.target instanceof HTMLInputElement ? null : step(event);
      if (by) {
        event.preventDefault();
        open(this.at + by[0] + by[1]);
        this.buttons[this.at].focus();
      }
    });
  }

  /** @param {HTMLElement} made @param {number} at */
  item(made, at) {
    const item = element("li", {}, made);
    if (this.comparing.takes(at)) {
      const label = made.querySelector(".entry-label")?.textContent ?? "";
      item.append(this.comparing.boxOf(at, label));
      item.classList.add("with-box");
    }
    return item;
  }

  /** Goes to two hits at once. @param {[number, number]} of */
  goToBoth(of) {
    this.comparing.set(of);
    byId("position").textContent = of.map((at) => at + 1).join(" and ");
    this.buttons.forEach((button, index) => {
      button.setAttribute("aria-current", String(of.includes(index)));
    });
  }

  /** Goes to an entry, or as near as there is one. @param {number} at */
  go(at) {
    this.at = Math.min(Math.max(at, 0), this.last);
    byId("position").textContent = `${this.at + 1} of ${this.last + 1}`;
    /** @type {HTMLButtonElement} */ (byId("previous")).disabled = this.at === 0;
    /** @type {HTMLButtonElement} */ (byId("next")).disabled = this.at === this.last;
    this.buttons.forEach((button, index) => {
      button.setAttribute("aria-current", String(index === this.at));
      button.tabIndex = index === this.at ? 0 : -1;
    });
    this.buttons[this.at].parentElement?.scrollIntoView({ block: "nearest" });
    return this.at;
  }
}

/** @param {Entry} entry @param {string | null} picture */
function buttonOf({ label, score }, picture) {
  const made = element("button", { type: "button", class: "entry" });
  if (picture) {
    made.append(element("img", { src: picture, alt: "" }));
  }
  made.append(
    element("span", { class: "entry-label", dir: "auto" }, label),
    element("span", { class: "entry-score" }, signed(score)),
  );
  return made;
}

/** @param {Entry} entry @param {Content} content */
function thumbnail(entry, content) {
  const sides = entry.pairs.flatMap((pair) => pair.sides);
  const pictures = sides.map((at) => content.sides[at].picture);
  const first = pictures.find((picture) => picture !== null) ?? null;
  return first === null ? null : content.pictures[first];
}
