/** Attributions to regions, drawn over the picture. */

import { FINENESS } from "./boxes.js";
import { AGAINST, colour, FOR, shareOf } from "./colours.js";
import { element } from "./elements.js";

/** All regions of a picture, on one canvas. */
export class Canvas {
  /** @param {Boxes} boxes @param {HTMLElement} around that it covers */
  constructor(boxes, around) {
    this.boxes = boxes;
    this.around = around;
    this.element = element("canvas", { "aria-hidden": "true" });
    /** Draws again what was drawn last. @type {(() => void)} */
    this.draw = () => {};
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
      this.outlineAsked(context);
      this.outline(context, selected, []);
      this.outline(context, partner, [4, 3]);
    };
    this.draw();
  }

  /** A clear canvas of as many pixels as the screen has there. */
  context() {
    const { width, height } = this.around.getBoundingClientRect();
    const size = [width, height].map((side) =>
      Math.max(1, Math.round(side * devicePixelRatio)),
    );
    if (this.element.width !== size[0] || this.element.height !== size[1]) {
      [this.element.width, this.element.height] = size;
    }
    const context = this.element.getContext("2d");
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
    const box = this.boxes.of(feature);
    const sides = [this.element.width, this.element.height];
    const edges = box.map((edge, at) => Math.round((edge / FINENESS) * sides[at % 2]));
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
    for (const feature of this.boxes.order) {
      const share = shareOf(values[feature], scale);
      const box = this.pixels(feature);
      if (!this.boxes.side.grid) {
        context.clearRect(...box);
      }
      context.globalAlpha = Math.abs(share) * scale.opacity;
      context.fillStyle = fills[share > 0 ? 1 : 0];
      context.fillRect(...box);
    }
    context.globalAlpha = 1;
  }

  /** The region that was asked for, if only one was explained.
   *
   * @param {CanvasRenderingContext2D} context
   */
  outlineAsked(context) {
    const { asked } = this.boxes.side;
    if (!asked) {
      return;
    }
    this.outline(context, new Set(this.boxes.order), [4, 3]);
    const [left, top, right, bottom] = asked.map(
      (edge, at) =>
        (edge / FINENESS) * (at % 2 ? this.element.height : this.element.width),
    );
    const path = new Path2D();
    path.rect(left, top, right - left, bottom - top);
    this.stroke(context, path, "#fff", 4.5, []);
    this.stroke(context, path, "#111", 2, []);
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
      for (const edge of this.boxes.all[feature] ? this.edges(feature) : []) {
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
