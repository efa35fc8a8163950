/** The strongest pairs, and the words that two candidates differ in. */

import { shown } from "./colours.js";
import { bar, byId, element, kindOf } from "./elements.js";
import { signed } from "./numbers.js";

/** Lists whose items select something. */
export class Lists {
  /** @param {Pick<Told<Picked>, "point" | "leave" | "pin">} told */
  constructor(told) {
    this.told = told;
    /** @type {{button: HTMLElement, selection: Picked, value: number}[]} */
    this.items = [];
  }

  /** @param {Entry} entry @param {Numbers[]} numbers */
  fill({ changes, decided, query }, numbers) {
    this.items = [];
    const cards = numbers.map(({ pair, sides }, at) => {
      const asked = /** @type {SideIndex} */ (sides[1].kind === "text" ? 1 : 0);
      const list = this.list(pair.matches, (match) => ({
        pair: at,
        side: asked,
        features: match.features[asked],
        partner: match.features[1 - asked],
        source: match,
      }));
      const title = `Strongest pairs${pair.title && `, ${pair.title.toLowerCase()}`}`;
      const none = element("p", { class: "aside" }, "Nothing matched anything.");
      const shownList = pair.matches.length ? list : none;
      return element("div", { class: "card" }, element("h2", {}, title), shownList);
    });
    byId("matches").replaceChildren(...cards);
    byId("changes-card").hidden = !changes && !decided;
    byId("changes-title").textContent = changes ? "Word by word" : "What decided";
    const rows = changes
      ? this.ofChanges(changes, query)
      : this.ofDecided(decided, query);
    byId("changes").replaceChildren(...rows.children);
  }

  /** @param {NonNullable<Entry["changes"]>} changes @param {Entry["query"]} query */
  ofChanges(changes, query) {
    const side = /** @type {SideIndex} */ (query === "first" ? 1 : 0);
    return this.list(changes, (change) => {
      const pair = change.features[0].length ? 0 : 1;
      return { pair, side, features: change.features[pair], source: change };
    });
  }

  /** Of the query, which is the same in both pairs.
   *
   * @param {Entry["decided"]} decided
   * @param {Entry["query"]} query
   */
  ofDecided(decided, query) {
    const side = /** @type {SideIndex} */ (query === "first" ? 0 : 1);
    return this.list(decided ?? [], (each) => ({
      pair: 0,
      side,
      features: each.features,
      source: each,
    }));
  }

  /**
   * @template {{label: string, value: number, changed?: boolean}} Told
   * @param {Told[]} found
   * @param {(match: Told) => Picked} select
   */
  list(found, select) {
    const most = found.reduce((size, { value }) => Math.max(size, Math.abs(value)), 0);
    const items = found.map((match) => {
      const button = element("button", {
        type: "button",
        class: match.changed ? "match changed" : "match",
      });
      button.append(
        element("span", { class: "match-label" }, match.label),
        bar(0, match.value, [-most, most], kindOf(match.value)),
        element("span", { class: "number" }, signed(match.value)),
      );
      const selection = select(match);
      for (const event of ["pointerenter", "focus"]) {
        button.addEventListener(event, () => this.told.point(selection));
      }
      for (const event of ["pointerleave", "blur"]) {
        button.addEventListener(event, () => this.told.leave());
      }
      button.addEventListener("click", () => this.told.pin(selection));
      this.items.push({ button, selection, value: match.value });
      return element("li", {}, button);
    });
    return element("ol", { class: "matches" }, ...items);
  }

  /** @param {State} state */
  mark({ pinned, sign }) {
    for (const { button, selection, value } of this.items) {
      button.setAttribute("aria-pressed", String(pinned?.source === selection.source));
      if (button.parentElement) {
        button.parentElement.hidden = value !== 0 && shown(value, sign) === 0;
      }
    }
  }
}
