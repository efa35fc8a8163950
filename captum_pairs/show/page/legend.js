/** The scale of the colours, and its legend. */

import { shown, threshold } from "./colours.js";
import { byId } from "./elements.js";
import { signed } from "./numbers.js";

/**
 * One for all that is coloured.
 *
 * @param {State} state
 * @param {{isCapped: boolean, isGlobal: boolean, opacity: number}} options
 * @returns {Scale}
 */
export function scaleOf({ numbers, painted, active, sign }, options) {
  const sizes = painted.flatMap((sides, pair) =>
    sides.flatMap((own, side) => {
      const { count } = numbers[pair].sides[side];
      return own
        ? Array.from(own.subarray(0, count), (v) => Math.abs(shown(v, sign)))
        : [];
    }),
  );
  const most = sizes.reduce((a, b) => Math.max(a, b), 0);
  let limit = options.isCapped ? threshold(sizes) || most : most;
  if (options.isGlobal && active) {
    limit = Math.max(...numbers.map(({ greatest }) => greatest));
  }
  const exceeded = most > limit * (1 + 1e-9);
  return { limit, exceeded, sign, opacity: options.opacity };
}

/** @param {Scale} scale */
export function showLegend({ limit, exceeded, sign }) {
  const low = `${exceeded ? "≤ " : ""}${signed(-limit)}`;
  const high = `${exceeded ? "≥ " : ""}${signed(limit)}`;
  byId("low").textContent = sign === "positive" ? "" : low;
  byId("high").textContent = sign === "negative" ? "" : high;
  byId("ramp").dataset.sign = sign;
  byId("legend").setAttribute(
    "aria-label",
    `Colours: purple, against the match, from ${low}; orange, for the match, to ${high}`,
  );
}
