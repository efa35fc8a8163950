/** Numbers as colours: orange for the match, purple against it. */

import { sum } from "./numbers.js";

export const FOR = "--for";
export const AGAINST = "--against";

/** The colours of the theme, as "r g b". @param {string} name */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/**
 * What a sign filter leaves of a value.
 *
 * @param {number} value
 * @param {string} sign
 */
export function shown(value, sign) {
  return (value < 0 && sign === "positive") || (value > 0 && sign === "negative")
    ? 0
    : value;
}

/** The part of the strongest colour. @param {number} value @param {Scale} scale */
export function shareOf(value, { limit, sign }) {
  const left = shown(value, sign);
  return limit > 0 ? Math.min(Math.max(left / limit, -1), 1) : 0;
}

/** "#rrggbb" or "r g b" as numbers. @param {string} text */
export function rgb(text) {
  return text.startsWith("#")
    ? [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16))
    : text.split(" ").map(Number);
}

/** Whether black is read better on it than white is. @param {number[]} channels */
export function isLight(channels) {
  const [red, green, blue] = channels.map((channel) => {
    const part = channel / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179;
}

/**
 * Captum's rule: the strongest values that make up two percent of the sum of all are
 * shown like the weakest of them.
 *
 * @param {number[]} sizes
 */
export function threshold(sizes) {
  const ordered = [...sizes].sort((a, b) => a - b);
  const wanted = 0.98 * sum(ordered);
  let running = 0;
  return ordered.find((size) => (running += size) >= wanted) ?? 0;
}
