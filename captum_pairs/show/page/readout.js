/** What is selected, in words and numbers. */

import { byId, element } from "./elements.js";
import { signed, sum } from "./numbers.js";

/** @param {State} state */
export function showReadout(state) {
  byId("unpin").hidden = !state.pinned;
  byId("readout-title").textContent = state.pinned ? "Pinned" : "Selection";
  byId("readout").replaceChildren(...said(state));
}

/**
 * Makes the readout as high as the highest of several, so that what stands below it does
 * not slide when one of them is shown.
 *
 * @param {State[]} states
 */
export function reserveReadout(states) {
  const readout = byId("readout");
  const every = states.map((state) =>
    element("div", { class: "said" }, ...said(state)),
  );
  const room = element("div", { class: "room", "aria-hidden": "true" }, ...every);
  readout.after(room);
  const heights = every.map((each) => each.getBoundingClientRect().height);
  room.remove();
  readout.style.minHeight = `${Math.ceil(Math.max(...heights))}px`;
}

/** @param {State} state */
function said(state) {
  if (!state.active) {
    return [
      element("p", { class: "what" }, "Nothing selected"),
      element(
        "p",
        { class: "aside" },
        "Colours show what each feature matched in the whole of the other input. " +
          "Point at a word or a region, or drag over several, to see what they " +
          "matched; click to pin.",
      ),
    ];
  }
  const all = state.chosen.flatMap((own, pair) => (own ? lines(own, pair, state) : []));
  const below = [difference(state), inspected(state)];
  return [...all, ...below.flatMap((text) => (text ? [element("p", {}, text)] : []))];
}

/** @param {Chosen} own @param {number} pair @param {State} state */
function lines(own, pair, state) {
  const numbers = state.numbers[pair];
  const other = /** @type {SideIndex} */ (1 - own.side);
  const matched = state.values[pair][other] ?? new Float64Array();
  const name = numbers.pair.names[other].toLowerCase();
  const { count } = numbers.sides[other];
  const rows = [[signed(sum(matched.subarray(0, count))), `with ${name}`]];
  if (own.partner.length) {
    const both = own.partner.map((at) => matched[at]);
    rows[0][1] = `with all of ${name}`;
    rows.unshift([signed(sum(both)), "this pair"]);
  }
  if (matched.length > count) {
    rows.push([signed(sum(matched.subarray(count))), "with its special tokens"]);
  }
  const effects = numbers.effects[own.side];
  if (effects) {
    rows.push([
      signed(sum(own.features.map((at) => effects[at]))),
      `on ${own.features.length > 1 ? "their" : "its"} own`,
    ]);
  }
  const terms = rows.flatMap(([value, what]) => [
    element("dt", {}, value),
    element("dd", {}, what),
  ]);
  const title = numbers.pair.title && `${numbers.pair.title}: `;
  const strongest = numbers.strongest(other, matched, state.sign);
  let what = numbers.describe(own.side, own.features);
  if (own.partner.length) {
    what = numbers.describePair(own);
  }
  return element(
    "div",
    {},
    element("p", { class: "what" }, title + what),
    element("dl", { class: "sums" }, ...terms),
    element(
      "p",
      { class: "aside" },
      strongest ? `Strongest: ${strongest}` : "It matched nothing.",
    ),
  );
}

/**
 * Of a contrast, how much more what is selected matched in the preferred pair.
 *
 * @param {State} state
 */
function difference({ chosen, numbers, values }) {
  const sums = chosen.map((own, pair) => {
    const side = own ? 1 - own.side : 0;
    const { count } = numbers[pair].sides[side];
    return own && sum(values[pair][side]?.subarray(0, count) ?? []);
  });
  const [preferred, other] = sums;
  return typeof preferred === "number" && typeof other === "number"
    ? `Difference: ${signed(preferred - other)}`
    : "";
}

/**
 * The number of one pair: what is pinned, and what is pointed at.
 *
 * @param {State} state
 */
function inspected({ pinned, pointed, chosen, numbers }) {
  const own = pinned && pointed && chosen[pointed.pair];
  if (!pointed || !own || pointed.side === own.side) {
    return "";
  }
  const known = numbers[pointed.pair];
  const values = known.against(own.side, own.features);
  const total = sum(pointed.features.map((at) => values[at]));
  return `With ${known.describe(pointed.side, pointed.features)}: ${signed(total)}`;
}
