/** What is selected, and what that colours. */

/**
 * What is selected in each pair: in a contrast the query's features are the same in
 * both, and words that stand in the same place belong together.
 *
 * @param {Entry} entry
 * @param {Picked | null} selection
 * @returns {(Chosen | null)[]}
 */
export function chosenIn({ pairs, query, changes }, selection) {
  return pairs.map((_, pair) => {
    if (!selection) {
      return null;
    }
    const { side, features, partner = [] } = selection;
    if (pair === selection.pair || side === (query === "first" ? 0 : 1)) {
      const kept = pair === selection.pair ? partner : [];
      return { side, features, partner: kept };
    }
    if (!changes) {
      return null;
    }
    const there = changes.filter((change) =>
      change.features[selection.pair].some((at) => features.includes(at)),
    );
    const aligned = there.flatMap((change) => change.features[pair]);
    return { side, features: aligned, partner };
  });
}

/**
 * What each side is coloured by.
 *
 * @param {Numbers} numbers
 * @param {Chosen | null} chosen
 * @param {boolean} isIdle nothing is selected: by what features matched in all
 */
export function valuesOf(numbers, chosen, isIdle) {
  /** @type {(Float64Array | null)[]} */
  const values = isIdle ? [...numbers.totals] : [null, null];
  if (chosen) {
    values[1 - chosen.side] = numbers.against(chosen.side, chosen.features);
  }
  return values;
}

/** @param {Picked} one @param {Picked} other */
export function isSame(one, other) {
  return (
    one.pair === other.pair &&
    one.side === other.side &&
    one.source === other.source &&
    String(one.features) === String(other.features)
  );
}

/**
 * Everything that is shown of a selection: a pin holds, until it is taken out.
 *
 * @param {Entry} entry
 * @param {Numbers[]} numbers
 * @param {{pinned: Picked | null, pointed: Picked | null}} selected
 * @param {string} sign
 * @returns {State}
 */
export function stateOf(entry, numbers, { pinned, pointed }, sign) {
  const active = pinned ?? pointed;
  const chosen = chosenIn(entry, active);
  const values = numbers.map((own, pair) => valuesOf(own, chosen[pair], !active));
  const painted = paintedOf(entry, values);
  return { numbers, pinned, pointed, active, chosen, values, painted, sign };
}

/**
 * A contrast's query stands there once, and shows what differs: what it matched in the
 * preferred candidate, less what it matched in the other one.
 *
 * @param {Entry} entry
 * @param {(Float64Array | null)[][]} values
 */
function paintedOf({ query }, values) {
  if (!query) {
    return values;
  }
  const side = queryOf(query);
  const [preferred, other] = values.map((sides) => sides[side]);
  const size = (preferred ?? other)?.length ?? 0;
  const difference =
    preferred || other
      ? Float64Array.from(
          { length: size },
          (_, at) => (preferred?.[at] ?? 0) - (other?.[at] ?? 0),
        )
      : null;
  return values.map((sides, pair) =>
    sides.map((own, at) => {
      if (at !== side) {
        return own;
      }
      return pair === 0 ? difference : null;
    }),
  );
}

/** @param {string} query @returns {SideIndex} */
export function queryOf(query) {
  return query === "first" ? 0 : 1;
}
