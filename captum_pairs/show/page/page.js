/** What is on the screen: an entry, what is selected in it, and how it is shown. */

import { readAddress, writeAddress } from "./address.js";
import { Crossing } from "./crossing.js";
import { byId, element } from "./elements.js";
import { Entries } from "./entries.js";
import { numbersOf, pictureOf, save } from "./export.js";
import { scaleOf, showLegend } from "./legend.js";
import { Lists } from "./lists.js";
import { signed } from "./numbers.js";
import { Numbers } from "./pair.js";
import { Panel } from "./panel.js";
import { showFacts, showParts } from "./parts.js";
import { reserveReadout, showReadout } from "./readout.js";
import { isSame, queryOf, stateOf } from "./selection.js";

/** The entry that is open, and what is selected in it. */
export class Page {
  /** @param {Content} content */
  constructor(content) {
    this.content = content;
    this.entry = content.entries[0];
    /** @type {Numbers[]} */
    this.numbers = [];
    /** @type {Panel[][]} */
    this.panels = [];
    /** @type {Picked | null} */
    this.pointed = null;
    /** @type {Picked | null} */
    this.pinned = null;
    /** @type {Crossing | null} */
    this.crossing = null;
    this.form = /** @type {HTMLFormElement} */ (byId("controls"));
    this.lists = new Lists({
      point: (selection) => this.point(selection),
      leave: () => this.point(null),
      pin: (selection) => this.pin(selection),
    });
    /** Two hits that are compared. @type {[number, number] | null} */
    this.compared = null;
    this.entries = new Entries(
      content,
      (at) => this.open(at),
      (of) => this.compare(of),
    );
    this.sized = new ResizeObserver(() => {
      this.panels.flat().forEach((panel) => panel.regions?.canvas.draw());
    });
    this.listen();
    this.go();
  }

  /** To what the address asks for. */
  go() {
    const { at, pinned, compared } = readAddress(this.content);
    this.open(at);
    if (compared) {
      this.compare(compared);
    }
    if (pinned) {
      this.pin(pinned);
    }
  }

  listen() {
    this.form.addEventListener("input", () => this.settle());
    this.form.addEventListener("submit", (event) => event.preventDefault());
    byId("unpin").addEventListener("click", () => this.pin(null));
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        this.pointed = null;
        this.pin(null);
      }
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
      this.render(),
    );
    window.addEventListener("resize", () => this.reserve());
    window.addEventListener("hashchange", () => this.go());
    byId("save-numbers").addEventListener("click", () => {
      const text = JSON.stringify(numbersOf(this.entry, this.numbers), null, 1);
      save("explanation.json", new Blob([text], { type: "application/json" }));
    });
    byId("save-picture").addEventListener("click", () => {
      const isGrey = this.option("grey") !== "";
      const picture = pictureOf(this.entry, this.shown(), isGrey, this.crossing);
      picture.toBlob((blob) => blob && save("explanation.png", blob));
    });
  }

  /** @param {number} at */
  open(at) {
    this.compared = null;
    this.show(this.content.entries[this.entries.go(at)]);
  }

  /** @param {[number, number]} of */
  compare(of) {
    const entry = this.entries.comparing.entryOf(of);
    if (entry) {
      this.compared = of;
      this.entries.goToBoth(of);
      this.show(entry);
    }
  }

  /** @param {Entry} entry */
  show(entry) {
    this.entry = entry;
    this.pointed = this.pinned = null;
    const { sides } = this.content;
    this.numbers = this.entry.pairs.map((pair) => new Numbers(pair, sides));
    showHead(this.entry);
    this.fillStage();
    this.lists.fill(this.entry, this.numbers);
    showParts(this.entry);
    showFacts(this.entry);
    this.settle();
  }

  fillStage() {
    this.sized.disconnect();
    this.panels = this.numbers.map((numbers, pair) =>
      [0, 1].map((side) => this.panel(numbers, pair, /** @type {SideIndex} */ (side))),
    );
    byId("pairs").replaceChildren(...this.shown().map((panel) => panel.element));
    const seen = this.shown().map((panel) => Boolean(panel.regions));
    const { query } = this.entry;
    const isMixed = seen[0] !== seen[1] && (!query || seen[0]);
    const { dataset } = byId("stage");
    dataset.shape = isMixed ? "mixed" : "alike";
    dataset.of = query ? "contrast" : "pair";
    const texts = this.numbers[0].sides.every(({ kind }) => kind === "text");
    byId("crossing").hidden = !texts || Boolean(query);
    this.crossing = byId("crossing").hidden
      ? null
      : new Crossing(this.numbers[0], this.lists.told);
    const regions = this.shown().flatMap((panel) => panel.regions ?? []);
    regions.forEach((region) => this.sized.observe(region.element));
    for (const control of this.form.querySelectorAll("[data-for=picture]")) {
      /** @type {HTMLElement} */ (control).hidden = !regions.length;
    }
  }

  /** What stands there: the query of a contrast once, before the candidates. */
  shown() {
    const { query } = this.entry;
    if (!query) {
      return this.panels[0];
    }
    const side = queryOf(query);
    return [this.panels[0][side], ...this.panels.map((panels) => panels[1 - side])];
  }

  /** @param {Numbers} numbers @param {number} pair @param {SideIndex} side */
  panel(numbers, pair, side) {
    const isQuery = this.entry.query && queryOf(this.entry.query) === side;
    return new Panel(numbers, side, this.content.pictures, Boolean(isQuery), {
      point: (features) => this.point({ pair, side, features }),
      leave: () => this.point(null),
      drag: (features) => {
        if (this.pinned) {
          this.pin(null);
        }
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
    this.settle();
  }

  /** @param {string} name */
  option(name) {
    return String(new FormData(this.form).get(name) ?? "");
  }

  /** After what changes what can be said, and not only what is. */
  settle() {
    this.reserve();
    this.render();
  }

  /** Room for what the lists below the readout can make it say. */
  reserve() {
    const selections = this.lists.items.map(({ selection }) => selection);
    reserveReadout([null, ...selections].map((pointed) => this.state(pointed)));
  }

  /** What is shown if that is pointed at. @param {Picked | null} pointed */
  state(pointed) {
    const selected = { pinned: this.pinned, pointed };
    return stateOf(this.entry, this.numbers, selected, this.option("sign"));
  }

  render() {
    const state = this.state(this.pointed);
    const scale = scaleOf(state, {
      isCapped: this.option("capped") !== "",
      isGlobal: this.option("scale") === "global",
      opacity: Number(this.option("opacity")) / 100,
    });
    byId("page").classList.toggle("grey", this.option("grey") !== "");
    this.panels.forEach((panels, pair) => {
      const own = state.chosen[pair];
      panels.forEach((panel, side) => {
        const chosen = own?.side === side ? own.features : [];
        const partner = own && own.side !== side ? own.partner : [];
        const isPinned = Boolean(this.pinned);
        panel.paint(state.painted[pair][side], scale, chosen, partner, isPinned);
      });
    });
    this.crossing?.paint(state, scale);
    showLegend(scale);
    showReadout(state);
    this.lists.mark(state);
    writeAddress(this.entries.at, this.pinned, this.compared);
  }
}

/** What it is about, what was measured, and what that says. @param {Entry} entry */
function showHead({ label, measure, score, subheading, verdict, notes, key }) {
  byId("heading").textContent = label;
  byId("heading").classList.toggle("long", label.length > 90);
  byId("measure").textContent = measure;
  byId("score").textContent = signed(score);
  byId("subheading").textContent = subheading.map((each) => ` · ${each}`).join("");
  byId("verdict").textContent = verdict ?? "";
  byId("notes").replaceChildren(
    ...(notes ?? []).map((note) => element("li", {}, note)),
  );
  byId("key").textContent = key ?? "";
  byId("verdict").hidden = !verdict;
  byId("notes").hidden = !notes?.length;
  byId("key").hidden = !key;
}
