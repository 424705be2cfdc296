// @ts-check
// What points are coloured by: categories with a colour and a shape each, or numbers on a scale.
"use strict";

const PALETTE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C7A00", "#7A5195"];
const NOTHING = "#8A8A8A"; // of a missing value
const SCALE = ["#00224e", "#1a386f", "#434e6c", "#61646f", "#7d7c78", "#9b9577", "#bcaf6f", "#dfcb5d", "#fee838"];

/** @param {string} text in base64 */
function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}
/** @param {string | Float32Array} packed in base64, unless it is unpacked already */
const floatsOf = packed => typeof packed === "string" ? new Float32Array(bytesOf(packed).buffer) : packed;
/** @param {string | Codes} packed */
const codesOf = packed => typeof packed === "string" ? new Uint32Array(bytesOf(packed).buffer) : packed;
/** @param {string} hex */
const rgb = hex => [1, 3, 5].map(k => parseInt(hex.slice(k, k + 2), 16));

/** @param {number} share of the range, 0 to 1 */
function onScale(share) {
  const place = Math.min(Math.max(share, 0), 1) * (SCALE.length - 1), k = Math.min(Math.floor(place), SCALE.length - 2);
  const [low, high] = [rgb(SCALE[k]), rgb(SCALE[k + 1])];
  return low.map((value, c) => Math.round(value + (high[c] - value) * (place - k)));
}

/** @typedef {Uint8Array | Uint16Array | Uint32Array} Codes */

class Category {
  /** @param {{name: string, values: string[], codes: string | Codes}} described */
  constructor({name, values, codes}) {
    this.name = name;
    this.values = values;
    this.codes = codesOf(codes);
    /** @type {Set<number>} */
    this.hidden = new Set();
    this.counts = new Uint32Array(values.length);
    for (const code of this.codes) this.counts[code]++;
  }
  /** @param {number} code */
  hex(code) { return this.values[code] === "" ? NOTHING : PALETTE[code % PALETTE.length]; }
  /** @param {number} code */
  symbol(code) {
    return this.values[code] === "" ? 0 : (code + Math.floor(code / PALETTE.length)) % SYMBOLS.length;
  }
  /** @param {number} i */
  text(i) { return this.values[this.codes[i]]; }
  /** @param {number} i */
  isHidden(i) { return this.hidden.has(this.codes[i]); }
  /**
   * @param {Uint8Array} colors of which alpha stays as it is
   * @param {Uint8Array} symbols
   */
  fill(colors, symbols) {
    const inks = new Uint8Array(4 * this.values.length);
    this.values.forEach((_, code) => inks.set([...rgb(this.hex(code)), this.symbol(code)], 4 * code));
    for (let i = 0; i < this.codes.length; i++) {
      const ink = 4 * this.codes[i];
      colors[4 * i] = inks[ink]; colors[4 * i + 1] = inks[ink + 1]; colors[4 * i + 2] = inks[ink + 2];
      symbols[i] = inks[ink + 3];
    }
  }
}

class Numbers {
  /** @param {{name: string, numbers: string | Float32Array, texts: string[]}} described */
  constructor({name, numbers, texts}) {
    this.name = name;
    this.texts = texts;
    this.numbers = floatsOf(numbers);
    this.low = Infinity; this.high = -Infinity;
    for (const value of this.numbers) if (value === value) {
      this.low = Math.min(this.low, value); this.high = Math.max(this.high, value);
    }
  }
  /** @param {number} i */
  text(i) { return this.texts[i]; }
  /** @param {number} _ */
  isHidden(_) { return false; }
  /**
   * @param {Uint8Array} colors
   * @param {Uint8Array} symbols
   */
  fill(colors, symbols) {
    const range = this.high - this.low || 1, missing = rgb(NOTHING);
    for (let i = 0; i < this.numbers.length; i++) {
      const value = this.numbers[i], ink = value === value ? onScale((value - this.low) / range) : missing;
      colors[4 * i] = ink[0]; colors[4 * i + 1] = ink[1]; colors[4 * i + 2] = ink[2];
      symbols[i] = 0;
    }
  }
}

/** Numbers of which many are alike: a code for each point, and what the codes stand for. */
class CodedNumbers extends Numbers {
  /** @param {{name: string, codes: Codes, table: Float32Array, texts: string[] | null}} described */
  constructor({name, codes, table, texts}) {
    const numbers = new Float32Array(codes.length);
    for (let i = 0; i < codes.length; i++) numbers[i] = table[codes[i]];
    super({name, numbers, texts});
    this.codes = codes;
    this.table = table;
  }
  /** @param {number} i */
  text(i) {
    if (this.texts) return this.texts[this.codes[i]];
    const value = this.numbers[i];
    return value === value ? String(+value.toPrecision(5)) : "";
  }
  /**
   * @param {Uint8Array} colors
   * @param {Uint8Array} symbols
   */
  fill(colors, symbols) {
    const range = this.high - this.low || 1, missing = rgb(NOTHING), inks = new Uint8Array(3 * this.table.length);
    this.table.forEach((value, code) =>
      inks.set(value === value ? onScale((value - this.low) / range) : missing, 3 * code));
    for (let i = 0; i < this.codes.length; i++) {
      const ink = 3 * this.codes[i];
      colors[4 * i] = inks[ink]; colors[4 * i + 1] = inks[ink + 1]; colors[4 * i + 2] = inks[ink + 2];
    }
    symbols.fill(0);
  }
}

/**
 * @param {any} described
 * @returns {Category | Numbers}
 */
const columnOf = described => "table" in described ? new CodedNumbers(described) :
  "codes" in described ? new Category(described) : new Numbers(described);
