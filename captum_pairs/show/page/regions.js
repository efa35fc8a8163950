/** A picture with the regions that were explained on it. */

import { Boxes, FINENESS } from "./boxes.js";
import { Canvas } from "./canvas.js";
import { Cells } from "./cells.js";
import { element } from "./elements.js";

/** A picture, and what the pointer does on it. */
export class Regions {
  /**
   * @param {Side} side
   * @param {string | null} uri
   * @param {string} name
   * @param {Told} told
   */
  constructor(side, uri, name, told) {
    this.side = side;
    this.told = told;
    this.boxes = new Boxes(side);
    this.element = element("div", { class: "picture" });
    this.canvas = new Canvas(this.boxes, this.element);
    if (uri) {
      this.element.append(this.image(uri, name));
    }
    this.element.append(this.canvas.element);
    this.shape();
    /**
     * Where a drag began, in parts of the picture.
     *
     * @type {[number, number] | null}
     */
    this.start = null;
    this.isDragging = false;
    this.current = -1;
    this.listen();
    if (side.grid) {
      this.element.append(new Cells(this.boxes, name, told).element);
    }
  }

  /** @param {string} uri @param {string} name */
  image(uri, name) {
    const image = element("img", {
      src: uri,
      alt: `${name}: ${this.side.label}`,
      draggable: "false",
    });
    image.addEventListener("load", () =>
      image.classList.toggle("coarse", image.naturalWidth < 200),
    );
    return image;
  }

  shape() {
    const [rows, columns] = this.side.grid ?? [1, 1];
    const [left, top, right, bottom] = this.side.extent ?? [0, 0, columns, rows];
    const natural = Math.min(Math.max((right - left) / (bottom - top), 0.2), 5);
    const ratio = this.side.kind === "audio" ? 2.2 : natural;
    this.element.style.aspectRatio = String(ratio);
    this.element.style.width = `min(100%, calc(var(--tallest) * ${ratio.toFixed(3)}))`;
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
    const at = this.boxes.at(place);
    if (this.start && at !== this.boxes.at(this.start)) {
      this.isDragging = true;
    }
    if (this.start && this.isDragging) {
      this.current = -1;
      this.told.drag(this.boxes.within(this.start, place));
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
    const at = this.boxes.at(place);
    const chosen = this.isDragging ? this.boxes.within(this.start, place) : [at];
    this.start = null;
    this.isDragging = false;
    if (chosen.length && chosen[0] >= 0) {
      this.told.pin(chosen);
    }
  }
}
