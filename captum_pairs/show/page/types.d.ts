/**
 * Words in which the page's modules are written. An *entry* is an explanation, or a
 * contrast of two. It has one or two *pairs* of inputs; each input is a *side* (0 or 1)
 * of its pair, and has *features*: words, patches, special tokens. A *selection* is of
 * features of one side; the other side is then coloured by what each of its features
 * matched.
 */

// ---- what the Python side writes -------------------------------------------

type SideIndex = 0 | 1;

/** A table of numbers: little-endian floats in base64, as shares of the scale. */
interface Packed {
  bits: number;
  scale: number;
  data: string;
}

interface Match {
  label: string;
  value: number;
  features: [number[], number[]];
}

interface Side {
  kind: string;
  label: string;
  text: string;
  count: number;
  names: string[];
  grid: [number, number] | null;
  extent: number[] | null;
  size: [number, number] | null;
  asked: number[] | null;
  picture: number | null;
  boxes: (number[] | null)[] | null;
  pieces: [string, number][] | null;
}

interface Pair {
  title: string;
  names: [string, string];
  sides: [number, number];
  table: Packed;
  effects: [Packed | null, Packed | null];
  matches: Match[];
}

interface Entry {
  label: string;
  score: number;
  measure: string;
  subheading: string[];
  verdict?: string;
  notes?: string[];
  key?: string;
  pairs: Pair[];
  parts: [string, number][];
  facts: [string, string][];
  query?: "first" | "second";
  changes?: (Match & { changed: boolean })[];
  /** Of hits: the words, or regions, of the query, and what each made of it. */
  decided?: { label: string; value: number; features: number[] }[];
}

/** Two hits side by side: an entry whose pairs are theirs. */
interface Compared {
  of: [number, number];
  titles: [string, string];
  entry: Omit<Entry, "pairs">;
}

interface Content {
  pictures: string[];
  sides: Side[];
  entries: Entry[];
  compared?: Compared[];
}

// ---- what is selected and shown --------------------------------------------

/** What a person picked, and the list's item, if it was picked there. */
interface Picked {
  pair: number;
  side: SideIndex;
  features: number[];
  partner?: number[];
  source?: object;
}

/** What that means for one pair; the partner is outlined on the other side. */
interface Chosen {
  side: SideIndex;
  features: number[];
  partner: number[];
}

interface State {
  numbers: Numbers[];
  pinned: Picked | null;
  pointed: Picked | null;
  active: Picked | null;
  chosen: (Chosen | null)[];
  values: (Float64Array | null)[][];
  /** What is drawn: of a contrast the query's values are the difference of both. */
  painted: (Float64Array | null)[][];
  sign: string;
}

interface Scale {
  limit: number;
  exceeded: boolean;
  sign: string;
  opacity: number;
}

/** What a panel, or a list, tells of what is done to it. */
interface Told<Selected = number[]> {
  point: (selected: Selected) => void;
  leave: () => void;
  drag: (selected: Selected) => void;
  pin: (selected: Selected) => void;
  describe: (feature: number) => string;
}

type Numbers = import("./pair.js").Numbers;
type Boxes = import("./boxes.js").Boxes;
type Panel = import("./panel.js").Panel;
type Crossing = import("./crossing.js").Crossing;
type Regions = import("./regions.js").Regions;
