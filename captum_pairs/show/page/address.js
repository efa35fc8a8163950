/** What is pinned, in the page's address: who opens it again sees the same. */

/**
 * @param {number} at
 * @param {Picked | null} pinned
 * @param {[number, number] | null} compared two hits, instead of one
 */
export function writeAddress(at, pinned, compared = null) {
  const parts = new URLSearchParams();
  if (compared) {
    parts.set("compare", compared.map((each) => each + 1).join("."));
  } else if (at) {
    parts.set("entry", String(at + 1));
  }
  if (pinned) {
    parts.set("pair", String(pinned.pair + 1));
    parts.set("side", String(pinned.side + 1));
    parts.set("features", pinned.features.join("."));
    if (pinned.partner?.length) {
      parts.set("with", pinned.partner.join("."));
    }
  }
  const fragment = String(parts);
  if (fragment === location.hash.slice(1)) {
    return;
  }
  try {
    history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname);
  } catch {
    // a page inside of another one has no address of its own
  }
}

/**
 * What an address asks for, as far as it is there.
 *
 * @param {Content} content
 * @returns {{at: number, pinned: Picked | null, compared: [number, number] | null}}
 */
export function readAddress(content) {
  const parts = new URLSearchParams(location.hash.slice(1));
  const both = (parts.get("compare") ?? "").split(".").map((each) => Number(each) - 1);
  const found = content.compared?.find(({ of }) => String(of) === String(both));
  if (found) {
    return { at: 0, pinned: null, compared: found.of };
  }
  return { ...readPin(content, parts), compared: null };
}

/** @param {Content} content @param {URLSearchParams} parts */
function readPin({ entries, sides }, parts) {
  const at = (Number(parts.get("entry")) || 1) - 1;
  const entry = entries[at];
  if (!entry) {
    return { at: 0, pinned: null };
  }
  const pair = (Number(parts.get("pair")) || 1) - 1;
  const side = parts.get("side") === "2" ? 1 : 0;
  const known = entry.pairs[pair]?.sides.map((index) => sizeOf(sides[index]));
  const read = (/** @type {string} */ name, /** @type {number} */ size) =>
    (parts.get(name) ?? "")
      .split(".")
      .filter((each) => /^\d+$/.test(each) && Number(each) < size)
      .map(Number);
  const features = known ? read("features", known[side]) : [];
  if (!known || !features.length) {
    return { at, pinned: null };
  }
  const partner = read("with", known[1 - side]);
  /** @type {Picked} */
  const pinned = { pair, side, features, partner };
  return { at, pinned };
}

/** How many features a side has. @param {Side} side */
export function sizeOf(side) {
  return (side.grid ? side.count : 0) + side.names.length;
}
