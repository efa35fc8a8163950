// @ts-check
"use strict";

/**
 * Words in which the code below is written. An *entry* is an explanation, or a contrast
 * of two. It has one or two *pairs* of inputs; each input is a *side* (0 or 1) of its
 * pair, and has *features*: words, patches, special tokens. A *selection* is of features
 * of one side; the other side is then coloured by what each of its features matched.
 *
 * @typedef {0 | 1} SideIndex
 * @typedef {{bits: number, scale: number, data: string}} Packed
 * @typedef {{label: string, value: number, features: [number[], number[]]}} Match
 * @typedef {{
 *   kind: string, label: string, text: string, count: number, names: string[],
 *   grid: [number, number] | null, extent: number[] | null, picture: number | null,
 *   boxes: (number[] | null)[] | null, pieces: [string, number][] | null,
 * }} Side
 * @typedef {{
 *   title: string, names: [string, string], sides: [number, number], table: Packed,
 *   effects: [Packed | null, Packed | null], matches: Match[],
 * }} Pair
 * @typedef {{
 *   label: string, score: number, heading: string, subheading: string[], pairs: Pair[],
 *   parts: [string, number][], facts: [string, string][], query?: "first" | "second",
 *   changes?: (Match & {changed: boolean})[],
 * }} Entry
 * @typedef {{pictures: string[], sides: Side[], entries: Entry[]}} Content
 * @typedef {{
 *   pair: number, side: SideIndex, features: number[], partner?: number[],
 *   source?: object,
 * }} Picked
 * @typedef {{side: SideIndex, features: number[], partner: number[]}} Chosen
 * @typedef {{limit: number, exceeded: boolean, sign: string, opacity: number}} Scale
 */

(() => {
  // What boxes are whole numbers of; see the Python side.
  const FINENESS = 10000;
  const STRONGEST = 3;
  const FOR = "--for";
  const AGAINST = "--against";

  // ---- numbers -------------------------------------------------------------

  /** @param {number} half */
  function fromHalf(half) {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    if (exponent === 0) {
      return sign * fraction * 2 ** -24;
    }
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  /**
   * A table's numbers, row by row.
   *
   * @param {Packed} packed
   */
  function unpacked({ bits, scale, data }) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const size = bits / 8;
    return Float64Array.from({ length: bytes.length / size }, (_, index) => {
      const at = index * size;
      const share =
        bits === 32 ? view.getFloat32(at, true) : fromHalf(view.getUint16(at, true));
      return scale * share;
    });
  }

  /** With its sign, and as many digits as can be read. @param {number} value */
  function signed(value) {
    const size = Math.abs(value);
    if (size === 0) {
      return "0";
    }
    let text = size.toExponential(0);
    if (size >= 0.00005) {
      text = size.toFixed(size < 0.09995 ? 4 : 3);
    }
    return (value < 0 ? "−" : "+") + text.replace("-", "−");
  }

  /** Words as such, in whatever direction they are read. @param {string} words */
  function quoted(words) {
    return `“\u2068${words}\u2069”`;
  }

  /** @param {ArrayLike<number>} values */
  function sum(values) {
    return Array.from(values).reduce((total, value) => total + value, 0);
  }

  /**
   * Captum's rule: the strongest values that make up two percent of the sum of all are
   * shown like the weakest of them.
   *
   * @param {number[]} sizes
   */
  function threshold(sizes) {
    const ordered = [...sizes].sort((a, b) => a - b);
    const wanted = 0.98 * sum(ordered);
    let running = 0;
    return ordered.find((size) => (running += size) >= wanted) ?? 0;
  }

  // ---- elements ------------------------------------------------------------

  /**
   * @template {keyof HTMLElementTagNameMap} Tag
   * @param {Tag} tag
   * @param {Record<string, string>} attributes
   * @param {(Node | string)[]} children texts are set as texts, never as markup
   * @returns {HTMLElementTagNameMap[Tag]}
   */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  /** @param {string} id */
  function byId(id) {
    const found = document.getElementById(id);
    if (!found) {
      throw new Error(`no element ${id}`);
    }
    return found;
  }

  /** @param {KeyboardEvent} event @param {boolean} isReversed from right to left */
  function step(event, isReversed = false) {
    const ahead = isReversed ? -1 : 1;
    const steps = { ArrowRight: [0, ahead], ArrowLeft: [0, -ahead] };
    const all = { ...steps, ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    return all[/** @type {keyof typeof all} */ (event.key)] ?? null;
  }

  /** @param {KeyboardEvent} event */
  function isPress(event) {
    return event.key === "Enter" || event.key === " ";
  }

  /** The colours of the theme, as "r g b". @param {string} name */
  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  /**
   * A bar from one number to another, on a line that has room for all of them.
   *
   * @param {number} from
   * @param {number} to
   * @param {[number, number]} range
   * @param {string} kind
   */
  function bar(from, to, [low, high], kind) {
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
  function kindOf(value) {
    return value < 0 ? "negative" : "positive";
  }

  // ---- the numbers of a pair -----------------------------------------------

  /** A pair's table, and what its features are called. */
  class Numbers {
    /** @param {Pair} pair @param {Side[]} sides */
    constructor(pair, sides) {
      this.pair = pair;
      this.sides = pair.sides.map((at) => sides[at]);
      this.sizes = this.sides.map(
        (side) => (side.grid ? side.count : 0) + side.names.length,
      );
      this.table = unpacked(pair.table);
      this.effects = pair.effects.map((packed) => packed && unpacked(packed));
      /** What every feature of a side matched in the other one, without its special
       * tokens. */
      this.totals = [0, 1].map((side) => {
        const other = /** @type {SideIndex} */ (1 - side);
        return this.against(other, [...Array(this.sides[other].count).keys()]);
      });
      this.greatest = this.strongestPair();
    }

    /** Of pairs without a special token. */
    strongestPair() {
      const [rows, columns] = this.sides.map((side) => side.count);
      let most = 0;
      for (let row = 0; row < rows; row += 1) {
        for (let column = 0; column < columns; column += 1) {
          most = Math.max(most, Math.abs(this.table[row * this.sizes[1] + column]));
        }
      }
      return most;
    }

    /**
     * What features of a side matched in each feature of the other side.
     *
     * @param {SideIndex} side
     * @param {number[]} features
     */
    against(side, features) {
      const values = new Float64Array(this.sizes[1 - side]);
      const columns = this.sizes[1];
      const [stepOwn, stepOther] = side === 0 ? [columns, 1] : [1, columns];
      for (const feature of features) {
        for (let at = 0; at < values.length; at += 1) {
          values[at] += this.table[feature * stepOwn + at * stepOther];
        }
      }
      return values;
    }

    /** @param {SideIndex} side @param {number} feature */
    name(side, feature) {
      const { grid, count, names, kind } = this.sides[side];
      if (!grid) {
        return kind === "text" && feature < count
          ? quoted(names[feature])
          : names[feature];
      }
      if (feature >= count) {
        return names[feature - count];
      }
      if (kind === "audio") {
        return this.place(side, [feature]);
      }
      const row = Math.floor(feature / grid[1]) + 1;
      return `row ${row}, column ${(feature % grid[1]) + 1}`;
    }

    /**
     * Where a feature lies, in the original's units.
     *
     * @param {SideIndex} side
     * @param {number[]} features
     */
    place(side, features) {
      const { boxes, extent, kind } = this.sides[side];
      const own = features.flatMap((feature) =>
        boxes?.[feature] ? [boxes[feature]] : [],
      );
      if (!extent || !own.length) {
        return "";
      }
      const part = (/** @type {number} */ at) =>
        Math[at < 2 ? "min" : "max"](...own.map((box) => box[at])) / FINENESS;
      const [left, top, right, bottom] = extent;
      const x = [part(0), part(2)].map((share) => left + share * (right - left));
      const [down, up] = [part(1), part(3)];
      if (kind === "audio") {
        const bands = [1 - up, 1 - down].map((share) => top + share * (bottom - top));
        return `${x[0].toFixed(2)}–${x[1].toFixed(2)} s, mel ${bands.map(Math.round).join("–")}`;
      }
      const y = [down, up].map((share) => top + share * (bottom - top));
      return `x ${x.map(Math.round).join("–")}, y ${y.map(Math.round).join("–")} px`;
    }

    /** Features in words. @param {SideIndex} side @param {number[]} features */
    describe(side, features) {
      const { kind, names, grid, count } = this.sides[side];
      const where = this.place(side, features);
      const after = where && ` (${where})`;
      if (!features.length) {
        return "nothing";
      }
      if (features.length === 1) {
        return this.name(side, features[0]) + (grid && kind !== "audio" ? after : "");
      }
      if (grid && features.every((feature) => feature < count)) {
        return `${features.length} patches${after}`;
      }
      const said = features.map((feature) =>
        grid ? this.name(side, feature) : names[feature],
      );
      return kind === "text" ? quoted(said.join(" ")) : said.join(", ");
    }

    /**
     * The features with the strongest values that a sign filter leaves, in words.
     *
     * @param {SideIndex} side
     * @param {ArrayLike<number>} values
     * @param {string} sign
     */
    strongest(side, values, sign) {
      const order = Array.from(values, (value, index) => ({ value, index }))
        .filter(
          ({ value, index }) => index < this.sides[side].count && shown(value, sign),
        )
        .sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
      return order
        .slice(0, STRONGEST)
        .map(({ value, index }) => `${this.name(side, index)} ${signed(value)}`)
        .join(" · ");
    }
  }

  /**
   * What a sign filter leaves of a value.
   *
   * @param {number} value
   * @param {string} sign
   */
  function shown(value, sign) {
    return (value < 0 && sign === "positive") || (value > 0 && sign === "negative")
      ? 0
      : value;
  }

  // ---- an input ------------------------------------------------------------

  /**
   * What a panel tells of what is done to it.
   *
   * @typedef {{
   *   point: (features: number[]) => void, leave: () => void,
   *   drag: (features: number[]) => void,
   *   pin: (features: number[]) => void,
   *   describe: (feature: number) => string,
   * }} Told
   */

  /** Words, or other features that have no place of their own in a picture. */
  class Words {
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
      this.reached = isRange
        ? this.range(at)
        : [Number(this.order[at].dataset.feature)];
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

  /** The part of the strongest colour. @param {number} value @param {Scale} scale */
  function shareOf(value, { limit, sign }) {
    const left = shown(value, sign);
    return limit > 0 ? Math.min(Math.max(left / limit, -1), 1) : 0;
  }

  /** "#rrggbb" or "r g b" as numbers. @param {string} text */
  function rgb(text) {
    return text.startsWith("#")
      ? [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16))
      : text.split(" ").map(Number);
  }

  /** Whether black is read better on it than white is. @param {number[]} channels */
  function isLight(channels) {
    const [red, green, blue] = channels.map((channel) => {
      const part = channel / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179;
  }

  /** A picture with the regions that were explained on it, drawn on one canvas. */
  class Regions {
    /**
     * @param {Side} side
     * @param {string | null} uri
     * @param {string} name
     * @param {Told} told
     */
    constructor(side, uri, name, told) {
      this.side = side;
      this.told = told;
      this.boxes = side.boxes ?? gridBoxes(side);
      /** Regions that lie inside of others come after them. */
      this.order = [...this.boxes.keys()].filter((at) => this.boxes[at]);
      if (!side.grid) {
        this.order.sort((a, b) => this.area(b) - this.area(a));
      }
      this.canvas = element("canvas", { "aria-hidden": "true" });
      this.element = element("div", { class: "picture" });
      if (uri) {
        const image = element("img", {
          src: uri,
          alt: `${name}: ${side.label}`,
          draggable: "false",
        });
        image.addEventListener("load", () =>
          image.classList.toggle("coarse", image.naturalWidth < 200),
        );
        this.element.append(image);
      }
      this.element.append(this.canvas);
      this.shape();
      /**
       * Where a drag began, in parts of the picture.
       *
       * @type {[number, number] | null}
       */
      this.start = null;
      this.isDragging = false;
      /** The cell that a selection by keys began at. @type {number | null} */
      this.anchor = null;
      this.current = -1;
      /** @type {(() => void)} */
      this.draw = () => {};
      this.listen();
      if (side.grid) {
        this.addCells(name);
      }
    }

    shape() {
      const [rows, columns] = this.side.grid ?? [1, 1];
      const [left, top, right, bottom] = this.side.extent ?? [0, 0, columns, rows];
      const natural = Math.min(Math.max((right - left) / (bottom - top), 0.2), 5);
      const ratio = this.side.kind === "audio" ? 2.2 : natural;
      this.element.style.aspectRatio = String(ratio);
      this.element.style.width = `min(100%, calc(var(--tallest) * ${ratio.toFixed(3)}))`;
    }

    /** @param {number} feature */
    area(feature) {
      const [left, top, right, bottom] = this.boxes[feature] ?? [0, 0, 0, 0];
      return (right - left) * (bottom - top);
    }

    /**
     * The region at a place; the smallest, if there are several.
     *
     * @param {[number, number]} place
     */
    at([x, y]) {
      const found = this.order.filter((feature) => {
        const [left, top, right, bottom] = this.boxes[feature] ?? [0, 0, 0, 0];
        return left <= x && x < right && top <= y && y < bottom;
      });
      return found.at(-1) ?? -1;
    }

    /**
     * Patches that a rectangle touches, or regions that lie in it.
     *
     * @param {[number, number]} start
     * @param {[number, number]} end
     */
    within(start, end) {
      const [low, high] = [Math.min, Math.max].map((pick) =>
        [0, 1].map((axis) => pick(start[axis], end[axis])),
      );
      return this.order.filter((feature) => {
        const [left, top, right, bottom] = this.boxes[feature] ?? [0, 0, 0, 0];
        return this.side.grid
          ? left <= high[0] && right > low[0] && top <= high[1] && bottom > low[1]
          : left >= low[0] && right <= high[0] && top >= low[1] && bottom <= high[1];
      });
    }

    /** @param {PointerEvent} event @returns {[number, number]} */
    place(event) {
      const { left, top, width, height } = this.element.getBoundingClientRect();
      const inside = (/** @type {number} */ share) =>
        Math.min(Math.max(share * FINENESS, 0), FINENESS - 1);
      return [
        inside((event.clientX - left) / width),
        inside((event.clientY - top) / height),
      ];
    }

    listen() {
      const on = this.element;
      on.addEventListener("pointermove", (event) => this.move(event));
      on.addEventListener("pointerleave", () => {
        if (!this.start) {
          this.current = -1;
          this.told.leave();
        }
      });
      on.addEventListener("pointerdown", (event) => {
        if (event.button === 0) {
          this.start = this.place(event);
          this.isDragging = false;
          on.setPointerCapture(event.pointerId);
          this.move(event);
        }
      });
      on.addEventListener("pointerup", (event) => this.release(event));
      on.addEventListener("pointercancel", () => {
        this.start = null;
        this.told.leave();
      });
    }

    /** @param {PointerEvent} event */
    move(event) {
      const place = this.place(event);
      const at = this.at(place);
      if (this.start && at !== this.at(this.start)) {
        this.isDragging = true;
      }
      if (this.start && this.isDragging) {
        this.current = -1;
        this.told.drag(this.within(this.start, place));
      } else if (at !== this.current) {
        this.current = at;
        if (at >= 0) {
          this.told.point([at]);
        } else {
          this.told.leave();
        }
      }
    }

    /** @param {PointerEvent} event */
    release(event) {
      if (!this.start) {
        return;
      }
      const place = this.place(event);
      const at = this.at(place);
      const chosen = this.isDragging ? this.within(this.start, place) : [at];
      this.start = null;
      this.isDragging = false;
      if (chosen.length && chosen[0] >= 0) {
        this.told.pin(chosen);
      }
    }

    /**
     * Of all the patches one is an element: the one that the keyboard is at. Two of them
     * take turns, so that focus moves and a screen reader says where it is.
     *
     * @param {string} name
     */
    addCells(name) {
      const [rows, columns] = this.side.grid ?? [1, 1];
      const grid = element("div", {
        role: "grid",
        "aria-label": `${name}: patches`,
        "aria-rowcount": String(rows),
        "aria-colcount": String(columns),
        "aria-describedby": "keys",
      });
      /** @type {HTMLElement[]} */
      const cells = [0, 1].map(() =>
        element("div", { role: "gridcell", class: "cell" }),
      );
      const lines = cells.map((cell) => element("div", { role: "row" }, cell));
      grid.append(...lines);
      this.cells = cells;
      /** @type {number} */
      this.cell = this.order[0] ?? 0;
      this.putCell(0, this.cell);
      lines[1].hidden = true;
      this.element.append(grid);
      grid.addEventListener("keydown", (event) => this.key(event));
      grid.addEventListener("focusin", () => {
        this.told[this.anchor === null ? "point" : "drag"](this.block());
      });
      grid.addEventListener("focusout", (event) => {
        if (!cells.includes(/** @type {HTMLElement} */ (event.relatedTarget))) {
          this.anchor = null;
        }
        this.told.leave();
      });
    }

    /** @param {number} which @param {number} feature */
    putCell(which, feature) {
      const cell = this.cells?.[which];
      const box = this.boxes[feature];
      if (!cell || !cell.parentElement || !box) {
        return;
      }
      const columns = this.side.grid?.[1] ?? 1;
      const row = Math.floor(feature / columns) + 1;
      cell.parentElement.hidden = false;
      cell.parentElement.setAttribute("aria-rowindex", String(row));
      cell.setAttribute("aria-colindex", String((feature % columns) + 1));
      cell.setAttribute("aria-label", this.told.describe(feature));
      cell.dataset.feature = String(feature);
      cell.tabIndex = 0;
      const edges = {
        left: box[0],
        top: box[1],
        width: box[2] - box[0],
        height: box[3] - box[1],
      };
      for (const [edge, value] of Object.entries(edges)) {
        cell.style.setProperty(edge, `${(100 * value) / FINENESS}%`);
      }
    }

    /** Patches between the anchor and the keyboard's. */
    block() {
      return this.anchor === null
        ? [this.cell ?? 0]
        : this.within(this.centre(this.anchor), this.centre(this.cell ?? 0));
    }

    /** @param {number} feature @returns {[number, number]} */
    centre(feature) {
      const [left, top, right, bottom] = this.boxes[feature] ?? [0, 0, 0, 0];
      return [(left + right) / 2, (top + bottom) / 2];
    }

    /**
     * The patches beside one, nearest first. Where they lie counts, not their number:
     * the rows of a sound begin with its low bands, which are shown below.
     *
     * @param {number} feature
     * @param {number[]} by rows down, columns to the right
     */
    beside(feature, by) {
      const axis = by[1] ? 0 : 1;
      const sign = by[0] + by[1];
      const from = this.centre(feature);
      const ahead = (/** @type {number} */ at) =>
        sign * (this.centre(at)[axis] - from[axis]);
      const box = this.boxes[feature] ?? [0, 0, 0, 0];
      const level = this.order.filter((at) => {
        const across = this.centre(at)[1 - axis];
        return box[1 - axis] <= across && across < box[3 - axis] && ahead(at) > 0;
      });
      return level.sort((a, b) => ahead(a) - ahead(b));
    }

    /** @param {KeyboardEvent} event */
    key(event) {
      const cell = this.cell ?? 0;
      if (isPress(event)) {
        event.preventDefault();
        this.told.pin(this.block());
        return;
      }
      const by = step(event);
      const isEnd = event.key === "Home" || event.key === "End";
      if (!by && !isEnd) {
        return;
      }
      event.preventDefault();
      const found = this.beside(cell, by ?? [0, event.key === "Home" ? -1 : 1]);
      this.anchor = event.shiftKey ? (this.anchor ?? cell) : null;
      this.moveTo(found.at(isEnd ? -1 : 0) ?? cell);
    }

    /** @param {number} feature */
    moveTo(feature) {
      if (!this.cells || !this.boxes[feature] || feature === this.cell) {
        return;
      }
      const old = document.activeElement === this.cells[0] ? 0 : 1;
      this.cell = feature;
      this.putCell(1 - old, feature);
      this.cells[1 - old].focus({ preventScroll: true });
      const line = this.cells[old].parentElement;
      if (line) {
        line.hidden = true;
      }
      this.cells[1 - old].scrollIntoView({ block: "nearest" });
    }

    /**
     * @param {ArrayLike<number> | null} values
     * @param {Scale} scale
     * @param {Set<number>} selected
     * @param {Set<number>} partner
     */
    paint(values, scale, selected, partner) {
      this.draw = () => {
        const context = this.context();
        if (values) {
          this.fill(context, values, scale);
        }
        this.outline(context, selected, []);
        this.outline(context, partner, [4, 3]);
      };
      this.draw();
    }

    /** A clear canvas of as many pixels as the screen has there. */
    context() {
      const { width, height } = this.element.getBoundingClientRect();
      const size = [width, height].map((side) =>
        Math.max(1, Math.round(side * devicePixelRatio)),
      );
      if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
        [this.canvas.width, this.canvas.height] = size;
      }
      const context = this.canvas.getContext("2d");
      if (!context) {
        throw new Error("no canvas");
      }
      context.clearRect(0, 0, size[0], size[1]);
      return context;
    }

    /**
     * A box in the canvas's pixels: left, top, width, height.
     *
     * @param {number} feature
     */
    pixels(feature) {
      const box = this.boxes[feature] ?? [0, 0, 0, 0];
      const sides = [this.canvas.width, this.canvas.height];
      const edges = box.map((edge, at) =>
        Math.round((edge / FINENESS) * sides[at % 2]),
      );
      return /** @type {[number, number, number, number]} */ ([
        edges[0],
        edges[1],
        edges[2] - edges[0],
        edges[3] - edges[1],
      ]);
    }

    /**
     * @param {CanvasRenderingContext2D} context
     * @param {ArrayLike<number>} values
     * @param {Scale} scale
     */
    fill(context, values, scale) {
      const fills = [AGAINST, FOR].map((name) => `rgb(${colour(name)})`);
      for (const feature of this.order) {
        const share = shareOf(values[feature], scale);
        const box = this.pixels(feature);
        if (!this.side.grid) {
          context.clearRect(...box);
        }
        context.globalAlpha = Math.abs(share) * scale.opacity;
        context.fillStyle = fills[share > 0 ? 1 : 0];
        context.fillRect(...box);
      }
      context.globalAlpha = 1;
    }

    /**
     * Around features, not between them.
     *
     * @param {CanvasRenderingContext2D} context
     * @param {Set<number>} chosen
     * @param {number[]} dash
     */
    outline(context, chosen, dash) {
      /** @type {Map<string, number[]>} */
      const edges = new Map();
      for (const feature of chosen) {
        for (const edge of this.boxes[feature] ? this.edges(feature) : []) {
          // an edge that two features share is no edge of theirs together
          const isShared = edges.delete(String(edge));
          if (!isShared) {
            edges.set(String(edge), edge);
          }
        }
      }
      const path = new Path2D();
      for (const edge of edges.values()) {
        path.moveTo(edge[0], edge[1]);
        path.lineTo(edge[2], edge[3]);
      }
      context.lineCap = "square";
      this.stroke(context, path, "#fff", 4.5, []);
      this.stroke(context, path, "#111", 2, dash);
    }

    /**
     * @param {CanvasRenderingContext2D} context
     * @param {Path2D} path
     * @param {string} style
     * @param {number} width
     * @param {number[]} dash
     */
    stroke(context, path, style, width, dash) {
      context.strokeStyle = style;
      context.lineWidth = width * devicePixelRatio;
      context.setLineDash(dash.map((part) => part * devicePixelRatio));
      context.stroke(path);
    }

    /** The four sides of a feature, in the canvas's pixels. @param {number} feature */
    edges(feature) {
      const [left, top, width, height] = this.pixels(feature);
      const [right, bottom] = [left + width, top + height];
      return [
        [left, top, right, top],
        [left, bottom, right, bottom],
        [left, top, left, bottom],
        [right, top, right, bottom],
      ];
    }
  }

  /** Where cells are that lie nowhere in particular. @param {Side} side */
  function gridBoxes(side) {
    const [rows, columns] = side.grid ?? [0, 0];
    return Array.from({ length: rows * columns }, (_, at) => {
      const [row, column] = [Math.floor(at / columns), at % columns];
      return [
        column / columns,
        row / rows,
        (column + 1) / columns,
        (row + 1) / rows,
      ].map((edge) => Math.round(edge * FINENESS));
    });
  }

  /** An input: its picture or its words, and features that are in neither. */
  class Panel {
    /**
     * @param {Numbers} numbers
     * @param {SideIndex} index
     * @param {string[]} pictures
     * @param {Told} told
     */
    constructor(numbers, index, pictures, told) {
      this.numbers = numbers;
      this.index = index;
      this.side = numbers.sides[index];
      this.words = new Words(told);
      /** @type {Regions | null} */
      this.regions = null;
      const name = numbers.pair.names[index];
      const { title } = numbers.pair;
      const label = title ? `${title}: ${name.toLowerCase()}` : name;
      this.element = element("section", { class: "card panel", "aria-label": label });
      const level = title ? "h3" : "h2";
      this.element.append(element(level, { class: "panel-title" }, name));
      const { picture, boxes, grid } = this.side;
      if (boxes || grid) {
        const uri = picture === null ? null : pictures[picture];
        this.regions = new Regions(this.side, uri, name, told);
        this.element.append(this.regions.element);
      }
      this.element.classList.add(this.regions ? "seen" : "read");
      this.addExtent();
      this.addText(name);
      this.addOthers(name);
    }

    addExtent() {
      const { extent, kind, label } = this.side;
      if (!this.regions || !extent) {
        return;
      }
      const all = this.numbers.place(this.index, this.regions.order);
      const bands = kind === "audio" ? ", low bands below" : "";
      this.element.append(
        element("p", { class: "extent" }, `${label}; shown: ${all}${bands}`),
      );
    }

    /** @param {string} name */
    addText(name) {
      const { pieces, text } = this.side;
      if (!pieces) {
        if (text) {
          this.element.append(element("p", { class: "words", dir: "auto" }, text));
        }
        return;
      }
      const group = element("div", {
        class: text.length > 160 ? "words long" : "words",
        role: "group",
        "aria-label": `Words of ${name.toLowerCase()}`,
        "aria-describedby": "keys",
        dir: "auto",
      });
      for (const [piece, feature] of pieces) {
        group.append(feature < 0 ? piece : this.words.mark(feature, piece));
      }
      this.words.listen(group);
      this.element.append(group);
    }

    /** Features that are in no picture and in no text. @param {string} name */
    addOthers(name) {
      const { grid, count, kind } = this.side;
      const all = [...Array(this.numbers.sizes[this.index]).keys()];
      const left = all.filter(
        (at) => !this.words.marks.has(at) && !(grid && at < count),
      );
      if (!left.length) {
        return;
      }
      const isSpecial = left.every((at) => at >= count);
      const title = isSpecial
        ? "Special tokens"
        : kind === "text"
          ? "Tokens"
          : "Regions";
      const group = element("div", {
        class: "others",
        role: "group",
        "aria-label": `${title} of ${name.toLowerCase()}`,
        "aria-describedby": "keys",
      });
      group.append(element("span", {}, `${title}:`));
      const words = new Words(this.words.told);
      for (const feature of left) {
        const said = grid ? this.side.names[feature - count] : this.side.names[feature];
        group.append(words.mark(feature, said));
      }
      words.listen(group);
      this.others = words;
      this.element.append(group);
    }

    /**
     * @param {ArrayLike<number> | null} values
     * @param {Scale} scale
     * @param {number[]} selected
     * @param {number[]} partner
     * @param {boolean} isPinned
     */
    paint(values, scale, selected, partner, isPinned) {
      const sets = [new Set(selected), new Set(partner)];
      this.regions?.paint(values, scale, sets[0], sets[1]);
      this.words.paint(values, scale, sets[0], sets[1], isPinned);
      this.others?.paint(values, scale, sets[0], sets[1], isPinned);
    }
  }

  // ---- an entry ------------------------------------------------------------

  /** What is on the screen: an entry, what is selected in it, and how it is shown. */
  class Page {
    /** @param {Content} content */
    constructor(content) {
      this.content = content;
      this.at = 0;
      /** @type {Numbers[]} */
      this.numbers = [];
      /** @type {Panel[][]} */
      this.panels = [];
      /** @type {Picked | null} */
      this.pointed = null;
      /** @type {Picked | null} */
      this.pinned = null;
      /** @type {{button: HTMLElement, selection: Picked, value: number}[]} */
      this.matches = [];
      /** @type {HTMLElement[]} of the list */
      this.buttons = [];
      this.form = /** @type {HTMLFormElement} */ (byId("controls"));
      this.listen();
      this.fillList();
      this.open(0);
    }

    get entry() {
      return this.content.entries[this.at];
    }

    /** What colours are made of: a pin holds, until it is taken out. */
    get active() {
      return this.pinned ?? this.pointed;
    }

    listen() {
      this.form.addEventListener("input", () => this.render());
      this.form.addEventListener("submit", (event) => event.preventDefault());
      byId("unpin").addEventListener("click", () => this.pin(null));
      byId("previous").addEventListener("click", () => this.open(this.at - 1));
      byId("next").addEventListener("click", () => this.open(this.at + 1));
      byId("entries").addEventListener("keydown", (event) => {
        const by = step(event);
        if (by) {
          event.preventDefault();
          this.open(this.at + by[0] + by[1]);
          this.buttons[this.at].focus();
        }
      });
      document.addEventListener("keydown", (event) => {
        if (event.key === "Escape") {
          this.pointed = null;
          this.pin(null);
        }
      });
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
        this.render(),
      );
      this.sized = new ResizeObserver(() => {
        this.panels.flat().forEach((panel) => panel.regions?.draw());
      });
    }

    fillList() {
      const { entries } = this.content;
      byId("list").hidden = entries.length < 2;
      byId("page").classList.toggle("with-list", entries.length > 1);
      this.buttons = entries.map((entry, at) => {
        const button = element("button", { type: "button", class: "entry" });
        const picture = this.thumbnail(entry);
        if (picture) {
          button.append(element("img", { src: picture, alt: "" }));
        }
        button.append(
          element("span", { class: "entry-label", dir: "auto" }, entry.label),
          element("span", { class: "entry-score" }, signed(entry.score)),
        );
        button.addEventListener("click", () => this.open(at));
        return button;
      });
      byId("entries").append(
        ...this.buttons.map((button) => element("li", {}, button)),
      );
    }

    /** @param {Entry} entry */
    thumbnail(entry) {
      const sides = entry.pairs.flatMap((pair) => pair.sides);
      const pictures = sides.map((at) => this.content.sides[at].picture);
      const first = pictures.find((picture) => picture !== null) ?? null;
      return first === null ? null : this.content.pictures[first];
    }

    /** @param {number} at */
    open(at) {
      const last = this.content.entries.length - 1;
      this.at = Math.min(Math.max(at, 0), last);
      this.pointed = this.pinned = null;
      this.numbers = this.entry.pairs.map(
        (pair) => new Numbers(pair, this.content.sides),
      );
      byId("heading").textContent = this.entry.heading;
      byId("score").textContent = signed(this.entry.score);
      byId("subheading").textContent = this.entry.subheading.join(" · ");
      byId("position").textContent = `${this.at + 1} of ${last + 1}`;
      /** @type {HTMLButtonElement} */ (byId("previous")).disabled = this.at === 0;
      /** @type {HTMLButtonElement} */ (byId("next")).disabled = this.at === last;
      this.buttons.forEach((button, index) => {
        button.setAttribute("aria-current", String(index === this.at));
        button.tabIndex = index === this.at ? 0 : -1;
      });
      this.buttons[this.at].parentElement?.scrollIntoView({ block: "nearest" });
      this.fillStage();
      this.fillMatches();
      this.fillParts();
      this.fillFacts();
      this.render();
    }

    fillStage() {
      this.sized?.disconnect();
      this.panels = this.numbers.map((numbers, pair) =>
        [0, 1].map((side) =>
          this.panel(numbers, pair, /** @type {SideIndex} */ (side)),
        ),
      );
      const pairs = this.panels.map((panels, pair) => {
        const holder = element("div", { class: "pair" });
        const { title } = this.numbers[pair].pair;
        if (title) {
          holder.append(element("h2", { class: "pair-title" }, title));
        }
        holder.append(...panels.map((panel) => panel.element));
        return holder;
      });
      byId("pairs").replaceChildren(...pairs);
      const seen = this.panels[0].map((panel) => Boolean(panel.regions));
      const shape = seen[0] === seen[1] ? "alike" : "mixed";
      byId("stage").dataset.shape = pairs.length > 1 ? "contrast" : shape;
      const regions = this.panels.flat().flatMap((panel) => panel.regions ?? []);
      regions.forEach((region) => this.sized?.observe(region.element));
      for (const control of this.form.querySelectorAll("[data-for=picture]")) {
        /** @type {HTMLElement} */ (control).hidden = !regions.length;
      }
    }

    /** @param {Numbers} numbers @param {number} pair @param {SideIndex} side */
    panel(numbers, pair, side) {
      return new Panel(numbers, side, this.content.pictures, {
        point: (features) => this.point({ pair, side, features }),
        leave: () => this.point(null),
        drag: (features) => {
          this.pinned = null;
          this.point({ pair, side, features });
        },
        pin: (features) => this.pin({ pair, side, features }),
        describe: (feature) => this.inWords(numbers, side, feature),
      });
    }

    /**
     * A patch as it is read out.
     *
     * @param {Numbers} numbers
     * @param {SideIndex} side
     * @param {number} feature
     */
    inWords(numbers, side, feature) {
      const other = /** @type {SideIndex} */ (1 - side);
      const said = numbers.describe(side, [feature]);
      const values = numbers.against(side, [feature]);
      return `${said}: ${numbers.strongest(other, values, this.option("sign")) || "nothing"}`;
    }

    // ---- selections

    /** @param {Picked | null} selection */
    point(selection) {
      if (!selection && !this.pointed) {
        return;
      }
      this.pointed = selection;
      this.render();
    }

    /** Takes the pin out, if it was there already. @param {Picked | null} selection */
    pin(selection) {
      this.pinned =
        selection && this.pinned && isSame(selection, this.pinned) ? null : selection;
      this.render();
    }

    /**
     * What is selected in each pair: in a contrast the query's features are the same in
     * both, and words that stand in the same place belong together.
     *
     * @param {Picked | null} selection
     * @returns {(Chosen | null)[]}
     */
    chosen(selection) {
      const { query, changes } = this.entry;
      return this.numbers.map((_, pair) => {
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

    // ---- colours

    /** @param {string} name */
    option(name) {
      return String(new FormData(this.form).get(name) ?? "");
    }

    render() {
      const chosen = this.chosen(this.active);
      const values = this.numbers.map((numbers, pair) =>
        valuesOf(numbers, chosen[pair], !this.active),
      );
      const scale = this.scale(values);
      byId("page").classList.toggle("grey", this.option("grey") !== "");
      this.panels.forEach((panels, pair) => {
        const own = chosen[pair];
        panels.forEach((panel, side) => {
          const selected = own?.side === side ? own.features : [];
          const partner = own && own.side !== side ? own.partner : [];
          panel.paint(
            values[pair][side],
            scale,
            selected,
            partner,
            Boolean(this.pinned),
          );
        });
      });
      this.renderLegend(scale);
      this.renderReadout(chosen, values);
      this.renderMatches();
    }

    /**
     * One for all that is coloured.
     *
     * @param {(Float64Array | null)[][]} values
     * @returns {Scale}
     */
    scale(values) {
      const sign = this.option("sign");
      const sizes = values.flatMap((sides, pair) =>
        sides.flatMap((own, side) => {
          const count = this.numbers[pair].sides[side].count;
          return own
            ? Array.from(own.subarray(0, count), (v) => Math.abs(shown(v, sign)))
            : [];
        }),
      );
      const most = sizes.reduce((a, b) => Math.max(a, b), 0);
      let limit = this.option("capped") ? threshold(sizes) || most : most;
      if (this.option("scale") === "global" && this.active) {
        limit = Math.max(...this.numbers.map((numbers) => numbers.greatest));
      }
      const opacity = Number(this.option("opacity")) / 100;
      return { limit, exceeded: most > limit * (1 + 1e-9), sign, opacity };
    }

    /** @param {Scale} scale */
    renderLegend({ limit, exceeded, sign }) {
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

    // ---- words

    /** @param {(Chosen | null)[]} chosen @param {(Float64Array | null)[][]} values */
    renderReadout(chosen, values) {
      byId("unpin").hidden = !this.pinned;
      byId("readout-title").textContent = this.pinned ? "Pinned" : "Selection";
      const readout = byId("readout");
      if (!this.active) {
        readout.replaceChildren(
          element("p", { class: "what" }, "Nothing selected"),
          element(
            "p",
            { class: "aside" },
            "Colours show what each feature matched in the whole of the other input. " +
              "Point at a word or a region, or drag over several, to see what they " +
              "matched; click to pin.",
          ),
        );
        return;
      }
      const lines = chosen.map((own, pair) =>
        own ? this.lines(own, pair, values[pair]) : null,
      );
      const said = [this.difference(chosen, values), this.inspected(chosen)];
      const below = said.flatMap((text) => (text ? [element("p", {}, text)] : []));
      readout.replaceChildren(...lines.flatMap((line) => line ?? []), ...below);
    }

    /**
     * @param {Chosen} own
     * @param {number} pair
     * @param {(Float64Array | null)[]} values
     */
    lines(own, pair, values) {
      const numbers = this.numbers[pair];
      const other = /** @type {SideIndex} */ (1 - own.side);
      const matched = values[other] ?? new Float64Array();
      const name = numbers.pair.names[other].toLowerCase();
      const { count } = numbers.sides[other];
      const rows = [[signed(sum(matched.subarray(0, count))), `with ${name}`]];
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
      const terms = rows.flatMap(([value, said]) => [
        element("dt", {}, value),
        element("dd", {}, said),
      ]);
      const title = numbers.pair.title && `${numbers.pair.title}: `;
      const strongest = numbers.strongest(other, matched, this.option("sign"));
      return element(
        "div",
        {},
        element(
          "p",
          { class: "what" },
          title + numbers.describe(own.side, own.features),
        ),
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
     * @param {(Chosen | null)[]} chosen
     * @param {(Float64Array | null)[][]} values
     */
    difference(chosen, values) {
      const sums = chosen.map((own, pair) => {
        const side = own ? 1 - own.side : 0;
        const { count } = this.numbers[pair].sides[side];
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
     * @param {(Chosen | null)[]} chosen
     */
    inspected(chosen) {
      const pointed = this.pinned && this.pointed;
      const own = pointed && chosen[pointed.pair];
      if (!pointed || !own || pointed.side === own.side) {
        return "";
      }
      const numbers = this.numbers[pointed.pair];
      const values = numbers.against(own.side, own.features);
      const total = sum(pointed.features.map((at) => values[at]));
      return `With ${numbers.describe(pointed.side, pointed.features)}: ${signed(total)}`;
    }

    // ---- lists

    fillMatches() {
      this.matches = [];
      const cards = this.numbers.map(({ pair, sides }, at) => {
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
      const { changes, query } = this.entry;
      byId("changes-card").hidden = !changes;
      const side = /** @type {SideIndex} */ (query === "first" ? 1 : 0);
      const rows = this.list(changes ?? [], (change) => {
        const pair = change.features[0].length ? 0 : 1;
        return { pair, side, features: change.features[pair], source: change };
      });
      byId("changes").replaceChildren(...rows.children);
    }

    /**
     * @param {(Match & {changed?: boolean})[]} found
     * @param {(match: Match) => Picked} select
     */
    list(found, select) {
      const most = found.reduce(
        (size, { value }) => Math.max(size, Math.abs(value)),
        0,
      );
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
          button.addEventListener(event, () => this.point(selection));
        }
        for (const event of ["pointerleave", "blur"]) {
          button.addEventListener(event, () => this.point(null));
        }
        button.addEventListener("click", () => this.pin(selection));
        this.matches.push({ button, selection, value: match.value });
        return element("li", {}, button);
      });
      return element("ol", { class: "matches" }, ...items);
    }

    renderMatches() {
      const sign = this.option("sign");
      for (const { button, selection, value } of this.matches) {
        button.setAttribute(
          "aria-pressed",
          String(this.pinned?.source === selection.source),
        );
        if (button.parentElement) {
          button.parentElement.hidden = value !== 0 && shown(value, sign) === 0;
        }
      }
    }

    /** Each part begins where the ones before it have led to. */
    fillParts() {
      const { parts, score, heading } = this.entry;
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
      const total = partRow(heading, score, bar(0, score, range, "total"));
      total.className = "sum";
      byId("parts").replaceChildren(element("tbody", {}, ...rows, total));
    }

    fillFacts() {
      const rows = this.entry.facts.flatMap(([term, said]) => [
        element("dt", {}, term),
        element("dd", {}, said),
      ]);
      byId("facts").replaceChildren(...rows);
    }
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

  /**
   * What each side is coloured by.
   *
   * @param {Numbers} numbers
   * @param {Chosen | null} chosen
   * @param {boolean} isIdle nothing is selected: by what features matched in all
   */
  function valuesOf(numbers, chosen, isIdle) {
    /** @type {(Float64Array | null)[]} */
    const values = isIdle ? [...numbers.totals] : [null, null];
    if (chosen) {
      values[1 - chosen.side] = numbers.against(chosen.side, chosen.features);
    }
    return values;
  }

  /** @param {Picked} one @param {Picked} other */
  function isSame(one, other) {
    return (
      one.pair === other.pair &&
      one.side === other.side &&
      one.source === other.source &&
      String(one.features) === String(other.features)
    );
  }

  const data = /** @type {Content} */ (JSON.parse(byId("data").textContent ?? ""));
  byId("page").hidden = false;
  new Page(data);
})();
