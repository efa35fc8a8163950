/** Elements of the page, and what keys do. */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {(Node | string)[]} children texts are set as texts, never as markup
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** @param {string} id */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) {
    throw new Error(`no element ${id}`);
  }
  return found;
}

/** @param {KeyboardEvent} event @param {boolean} isReversed from right to left */
export function step(event, isReversed = false) {
  const ahead = isReversed ? -1 : 1;
  const steps = { ArrowRight: [0, ahead], ArrowLeft: [0, -ahead] };
  const all = { ...steps, ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  return all[/** @type {keyof typeof all} */ (event.key)] ?? null;
}

/** @param {KeyboardEvent} event */
export function isPress(event) {
  return event.key === "Enter" || event.key === " ";
}

/**
 * A bar from one number to another, on a line that has room for all of them.
 *
 * @param {number} from
 * @param {number} to
 * @param {[number, number]} range
 * @param {string} kind
 */
export function bar(from, to, [low, high], kind) {
  const place = (/** @type {number} */ value) =>
    high > low ? (100 * (value - low)) / (high - low) : 50;
  const inner = element("i", { class: kind });
  inner.style.left = `${place(Math.min(from, to))}%`;
  inner.style.width = `${Math.abs(place(to) - place(from))}%`;
  const outer = element("span", { class: "bar", "aria-hidden": "true" }, inner);
  outer.style.setProperty("--zero", `${place(0)}%`);
  return outer;
}

/** @param {number} value */
export function kindOf(value) {
  return value < 0 ? "negative" : "positive";
}
