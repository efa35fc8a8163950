/** Words of an input, or other features that have no place in a picture. */

import { AGAINST, colour, FOR, isLight, rgb, shareOf } from "./colours.js";
import { element, isPress, step } from "./elements.js";

/** Words, or other features that have no place of their own in a picture. */
export class Words {
  /** @param {Told} told */
  constructor(told) {
    this.told = told;
    /** @type {Map<number, HTMLElement>} */
    this.marks = new Map();
    /** @type {HTMLElement[]} */
    this.order = [];
    /** @type {number[]} */
    this.reached = [];
    /** The word where a drag, or a selection by keys, began. @type {number | null} */
    this.anchor = null;
    this.isDragging = false;
  }

  /** @param {number} feature @param {string} text */
  mark(feature, text) {
    const made = element("span", {
      class: "word",
      role: "button",
      tabindex: this.order.length ? "-1" : "0",
      "aria-pressed": "false",
      "data-feature": String(feature),
    });
    made.append(text);
    this.marks.set(feature, made);
    this.order.push(made);
    return made;
  }

  /** @param {EventTarget | null} target */
  find(target) {
    const word = target instanceof Element ? target.closest(".word") : null;
    return this.order.indexOf(/** @type {HTMLElement} */ (word));
  }

  /** The features from the anchor to a word. @param {number} end */
  range(end) {
    const start = this.anchor ?? end;
    const span = this.order.slice(Math.min(start, end), Math.max(start, end) + 1);
    return span.map((word) => Number(word.dataset.feature));
  }

  /** @param {HTMLElement} group that holds the words */
  listen(group) {
    group.addEventListener("pointerover", (event) => {
      const at = this.find(event.target);
      if (at >= 0) {
        this.reach(at, this.isDragging);
      }
    });
    group.addEventListener("pointerleave", () => {
      if (!this.isDragging) {
        this.told.leave();
      }
    });
    group.addEventListener("pointerdown", (event) => this.press(event));
    group.addEventListener("keydown", (event) => this.key(event, group));
    group.addEventListener("focusin", (event) => {
      const at = this.find(event.target);
      if (at >= 0 && !this.isDragging) {
        this.reach(at, true);
      }
    });
    group.addEventListener("focusout", (event) => {
      if (this.find(event.relatedTarget) < 0) {
        this.anchor = null;
      }
      this.told.leave();
    });
  }

  /**
   * A word is come to; several take the pin out of what was pinned.
   *
   * @param {number} at
   * @param {boolean} isRange the words from the anchor to it
   */
  reach(at, isRange) {
    this.reached = isRange ? this.range(at) : [Number(this.order[at].dataset.feature)];
    this.told[this.reached.length > 1 ? "drag" : "point"](this.reached);
  }

  /** @param {PointerEvent} event */
  press(event) {
    const at = this.find(event.target);
    if (at < 0 || event.button !== 0) {
      return;
    }
    // or a finger would stay with the word that it came down on
    /** @type {Element} */ (event.target).releasePointerCapture(event.pointerId);
    this.anchor = at;
    this.isDragging = true;
    this.reach(at, true);
    const stop = new AbortController();
    const end = (/** @type {PointerEvent} */ up) => {
      stop.abort();
      // a drag may end beside the words, a click must not
      const isOver = this.find(up.target) >= 0 || this.reached.length > 1;
      this.isDragging = false;
      this.anchor = null;
      if (isOver && up.type === "pointerup") {
        this.told.pin(this.reached);
      } else {
        this.told.leave();
      }
    };
    window.addEventListener("pointerup", end, { signal: stop.signal });
    window.addEventListener("pointercancel", end, { signal: stop.signal });
  }

  /** @param {KeyboardEvent} event @param {HTMLElement} group */
  key(event, group) {
    const at = this.find(event.target);
    if (at < 0) {
      return;
    }
    if (isPress(event)) {
      event.preventDefault();
      this.told.pin(this.range(at));
      return;
    }
    const isReversed = getComputedStyle(group).direction === "rtl";
    const by = step(event, isReversed);
    const last = this.order.length - 1;
    let to = by ? at + by[0] + by[1] : at;
    if (event.key === "Home" || event.key === "End") {
      to = event.key === "Home" ? 0 : last;
    } else if (!by) {
      return;
    }
    event.preventDefault();
    this.anchor = event.shiftKey ? (this.anchor ?? at) : null;
    this.focus(Math.min(Math.max(to, 0), last));
  }

  /** The only word that Tab stops at. @param {number} at */
  focus(at) {
    for (const word of this.order) {
      word.tabIndex = -1;
    }
    this.order[at].tabIndex = 0;
    this.order[at].focus();
  }

  /**
   * @param {ArrayLike<number> | null} values
   * @param {Scale} scale
   * @param {Set<number>} selected
   * @param {Set<number>} partner
   * @param {boolean} isPinned
   */
  paint(values, scale, selected, partner, isPinned) {
    const card = rgb(colour("--card"));
    const sides = [colour(AGAINST), colour(FOR)].map(rgb);
    for (const [feature, word] of this.marks) {
      const share = values ? shareOf(values[feature], scale) : 0;
      word.classList.toggle("selected", selected.has(feature));
      word.classList.toggle("partner", partner.has(feature));
      const pressed = String(isPinned && selected.has(feature));
      word.setAttribute("aria-pressed", pressed);
      if (!share) {
        word.style.backgroundColor = word.style.color = "";
        continue;
      }
      const full = sides[share > 0 ? 1 : 0];
      const mixed = card.map((c, at) =>
        Math.round(c + Math.abs(share) * (full[at] - c)),
      );
      word.style.backgroundColor = `rgb(${mixed.join(" ")})`;
      word.style.color = isLight(mixed) ? "#000" : "#fff";
    }
  }
}
