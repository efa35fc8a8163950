/** What the score is made of, and how it was found. */

import { bar, byId, element, kindOf } from "./elements.js";
import { signed } from "./numbers.js";

/** Each part begins where the ones before it have led to. @param {Entry} entry */
export function showParts({ parts, score, measure }) {
  let running = 0;
  const spans = parts.map(([name, value]) => {
    running += value;
    return { name, value, from: running - value, to: running };
  });
  const ends = [0, score, ...spans.map(({ to }) => to)];
  const range = /** @type {[number, number]} */ ([
    Math.min(...ends),
    Math.max(...ends),
  ]);
  const rows = spans.map(({ name, value, from, to }) =>
    partRow(name, value, bar(from, to, range, kindOf(value))),
  );
  const total = partRow(measure, score, bar(0, score, range, "total"));
  total.className = "sum";
  byId("parts").replaceChildren(element("tbody", {}, ...rows, total));
}

/** @param {Entry} entry */
export function showFacts({ facts }) {
  const rows = facts.flatMap(([term, said]) => [
    element("dt", {}, term),
    element("dd", {}, said),
  ]);
  byId("facts").replaceChildren(...rows);
}

/** @param {string} name @param {number} value @param {HTMLElement} drawn */
function partRow(name, value, drawn) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, name[0].toUpperCase() + name.slice(1)),
    element("td", {}, drawn),
    element("td", { class: "number" }, signed(value)),
  );
}
