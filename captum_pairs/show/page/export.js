/** What is on the page, as files. */

import { colour } from "./colours.js";
import { byId, element } from "./elements.js";
import { signed } from "./numbers.js";

const WIDTH = 1200;
const MARGIN = 36;
// Of lines and tables of words.
const LINE = 28;
const WORD_SIZE = "16px";
const MOST_OF_WORD = 260;
const [LEAST_OF_CELL, MOST_OF_CELL] = [4, 90];

/**
 * All numbers of an entry, by the names of what they belong to.
 *
 * @param {Entry} entry
 * @param {Numbers[]} numbers
 */
export function numbersOf(entry, numbers) {
  const pairs = numbers.map((own) => ({
    title: own.pair.title,
    inputs: own.sides.map(({ label }, side) => ({
      name: own.pair.names[side],
      label,
      features: Array.from({ length: own.sizes[side] }, (_, at) =>
        own.name(/** @type {SideIndex} */ (side), at),
      ),
      effects: own.effects[side] && Array.from(own.effects[side] ?? []),
    })),
    interactions: Array.from({ length: own.sizes[0] }, (_, row) =>
      Array.from(own.table.subarray(row * own.sizes[1], (row + 1) * own.sizes[1])),
    ),
  }));
  const { label, measure, score, verdict, parts, facts } = entry;
  return { label, measure, score, verdict, parts, facts, pairs };
}

/** @param {string} name @param {Blob} blob */
export function save(name, blob) {
  const address = URL.createObjectURL(blob);
  const link = element("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/**
 * The page's panels as one picture, as they are coloured.
 *
 * @param {Entry} entry
 * @param {Panel[]} panels
 * @param {boolean} isGrey
 * @param {Crossing | null} crossing
 * @returns {HTMLCanvasElement}
 */
export function pictureOf(entry, panels, isGrey, crossing) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  if (!context) {
    throw new Error("no canvas");
  }
  const style = getComputedStyle(document.body);
  // once to see how high it becomes, then for good
  for (const round of [0, 1]) {
    const drawn = new Drawing(context, style);
    context.fillStyle = getComputedStyle(document.documentElement)
      .getPropertyValue("--card")
      .trim();
    context.fillRect(0, 0, canvas.width, canvas.height);
    drawn.text(entry.label, "600 26px");
    drawn.text(`${entry.measure} ${signed(entry.score)}`, "18px");
    drawn.text(entry.verdict ?? "", "18px");
    drawn.legend();
    for (const chosen of byId("readout").querySelectorAll(".what")) {
      drawn.text(chosen.textContent ?? "", "18px");
    }
    for (const panel of panels) {
      drawn.panel(panel, isGrey);
    }
    if (crossing) {
      drawn.crossing(crossing);
    }
    if (round === 0) {
      canvas.width = WIDTH;
      canvas.height = Math.ceil(drawn.y + MARGIN);
    }
  }
  return canvas;
}

/** What is drawn one below the other. */
class Drawing {
  /** @param {CanvasRenderingContext2D} context @param {CSSStyleDeclaration} style */
  constructor(context, style) {
    this.context = context;
    this.family = style.fontFamily;
    this.ink = style.color;
    this.y = MARGIN;
  }

  /** Words with their colours, in lines. @param {string} text @param {string} font */
  text(text, font) {
    this.runs(
      text.split(/(?<=\s)/).map((word) => ({ word, ground: "", ink: this.ink })),
      font,
    );
  }

  /** What the colours are, as the page has it. */
  legend() {
    const { context } = this;
    const [width, height] = [240, 12];
    const ends = ["--against", "--for"].map((name) => `rgb(${colour(name)})`);
    const ramp = context.createLinearGradient(MARGIN, 0, MARGIN + width, 0);
    ramp.addColorStop(0, ends[0]);
    ramp.addColorStop(0.5, colour("--card"));
    ramp.addColorStop(1, ends[1]);
    context.fillStyle = ramp;
    context.fillRect(MARGIN, this.y, width, height);
    this.y += height;
    const said = ["low", "high"].map((id) => byId(id).textContent || "0");
    this.text(`against ${said[0]} … for ${said[1]}`, "14px");
  }

  /**
   * @param {{word: string, ground: string, ink: string, isChosen?: boolean}[]} runs
   * @param {string} font
   */
  runs(runs, font) {
    const { context } = this;
    context.font = `${font} ${this.family}`;
    const size = Number.parseInt(font.replace("600 ", ""), 10);
    const [line, pad] = [1.7 * size, 4];
    let x = MARGIN;
    for (const { word, ground, ink, isChosen } of runs) {
      const { width } = context.measureText(word);
      if (x > MARGIN && x + width > WIDTH - MARGIN) {
        x = MARGIN;
        this.y += line;
      }
      if (ground) {
        context.fillStyle = ground;
        context.fillRect(x - pad / 2, this.y, width + pad, 1.4 * size);
      }
      if (isChosen) {
        context.strokeStyle = this.ink;
        context.strokeRect(x - pad / 2, this.y, width + pad, 1.4 * size);
      }
      context.fillStyle = ink;
      context.fillText(word, x, this.y + 1.1 * size);
      x += width + (ground ? pad : 0);
    }
    this.y += runs.length && runs[0].word ? line : 0;
  }

  /** @param {Panel} panel @param {boolean} isGrey */
  panel(panel, isGrey) {
    this.y += 14;
    this.text(panel.name, "600 16px");
    if (panel.regions) {
      this.picture(panel.regions, isGrey);
    }
    for (const words of [panel.words, panel.others]) {
      const runs = words?.order.flatMap((word) => {
        const { backgroundColor, color } = getComputedStyle(word);
        const isChosen = word.classList.contains("selected");
        return [
          {
            word: word.textContent ?? "",
            ground: backgroundColor,
            ink: color,
            isChosen,
          },
          { word: " ", ground: "", ink: this.ink },
        ];
      });
      this.runs(runs ?? [], "20px");
    }
  }

  /** @param {Regions} regions @param {boolean} isGrey */
  picture(regions, isGrey) {
    const { context } = this;
    const { width, height } = regions.element.getBoundingClientRect();
    const wide = Math.min(WIDTH - 2 * MARGIN, (640 * width) / height);
    const high = (wide * height) / width;
    const image = regions.element.querySelector("img");
    if (image?.complete && image.naturalWidth) {
      context.filter = isGrey ? "grayscale(1)" : "none";
      context.drawImage(image, MARGIN, this.y, wide, high);
      context.filter = "none";
    }
    context.drawImage(regions.canvas.element, MARGIN, this.y, wide, high);
    this.y += high + 8;
  }

  /** Lines between the words of two texts, and the table of them. @param {Crossing} drawn */
  crossing(drawn) {
    this.y += 14;
    this.text("Which word matched which", "600 16px");
    this.context.font = `${WORD_SIZE} ${this.family}`;
    this.lines(drawn);
    this.y += 20;
    this.table(drawn);
  }

  /** @param {string} word @param {number} x @param {number} y @param {CanvasTextAlign} align */
  word(word, x, y, align) {
    const { context } = this;
    context.fillStyle = this.ink;
    context.textAlign = align;
    context.fillText(word, x, y, MOST_OF_WORD);
    context.textAlign = "start";
  }

  /** @param {readonly string[]} words */
  widest(words) {
    const widths = words.map((word) => this.context.measureText(word).width);
    return Math.min(Math.max(0, ...widths), MOST_OF_WORD);
  }

  /** @param {Crossing} drawn */
  lines(drawn) {
    const { context } = this;
    const words = [drawn.words(0), drawn.words(1)];
    const height = LINE * Math.max(...drawn.counts);
    const middle = (/** @type {0 | 1} */ side, /** @type {number} */ at) =>
      this.y + ((at + 0.5) * height) / drawn.counts[side];
    const from = MARGIN + this.widest(words[0]);
    const to = Math.min(from + 480, WIDTH - MARGIN - this.widest(words[1]));
    words[0].forEach((word, at) => this.word(word, from, middle(0, at) + 5, "end"));
    words[1].forEach((word, at) => this.word(word, to, middle(1, at) + 5, "start"));
    for (const { line, row, column } of drawn.lines) {
      const look = (/** @type {string} */ name) => line.getAttribute(name) ?? "";
      context.strokeStyle = look("stroke");
      context.globalAlpha = Number(look("stroke-opacity"));
      context.lineWidth = Number(look("stroke-width"));
      context.beginPath();
      context.moveTo(from + 8, middle(0, row));
      context.lineTo(to - 8, middle(1, column));
      context.stroke();
    }
    context.globalAlpha = context.lineWidth = 1;
    this.y += height;
  }

  /** @param {Crossing} drawn */
  table(drawn) {
    const { context } = this;
    const [rows, columns] = [drawn.words(0), drawn.words(1)];
    const left = MARGIN + this.widest(rows) + 8;
    const room = (WIDTH - MARGIN - left) / Math.max(columns.length, 1);
    const wide = Math.max(LEAST_OF_CELL, Math.min(room, MOST_OF_CELL));
    const isTurned = this.widest(columns) > wide - 8;
    const head = isTurned ? this.widest(columns) + 8 : LINE;
    columns.forEach((word, at) => {
      const x = left + (at + 0.5) * wide;
      if (!isTurned) {
        this.word(word, x, this.y + 18, "center");
        return;
      }
      context.save();
      context.translate(x + 5, this.y + head - 4);
      context.rotate(-Math.PI / 2);
      this.word(word, 0, 0, "start");
      context.restore();
    });
    this.y += head;
    drawn.cells.forEach((cell, place) => {
      const [row, at] = [Math.floor(place / columns.length), place % columns.length];
      const [x, y] = [left + at * wide, this.y + row * LINE];
      context.fillStyle = cell.style.backgroundColor;
      context.fillRect(x, y, wide - 1, LINE - 1);
      context.fillStyle = cell.style.color;
      context.textAlign = "center";
      context.fillText(cell.textContent ?? "", x + wide / 2, y + 19, wide - 6);
      if (cell.classList.contains("chosen")) {
        context.strokeStyle = this.ink;
        context.lineWidth = 2;
        context.strokeRect(x + 1, y + 1, wide - 3, LINE - 3);
        context.lineWidth = 1;
      }
    });
    rows.forEach((word, at) =>
      this.word(word, left - 8, this.y + at * LINE + 19, "end"),
    );
    this.y += rows.length * LINE;
  }
}
