// @ts-check
// Thumbnails out of a few large sheets.
"use strict";

/**
 * @param {string} tag
 * @param {object} properties
 * @param {...(Node | string)} children
 * @returns {any} an element of this kind
 */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class Thumbnails {
  /** @type {string} */ name;
  /** @type {string[]} */ sheets;
  /** @type {Set<number>} */ missing;
  /** @type {(string | null)[]} */ loading;
  /** @type {number} */ n;
  /** @type {number} */ edge;
  /** @type {number} */ across;
  /** @type {number} */ per_sheet;

  /** @param {any} described without sheets where there are no thumbnails */
  constructor(described) {
    if (described) {
      Object.assign(this, described, {missing: new Set(described.missing)});
      this.loading = this.sheets.map(() => null);
    }
  }
  /** @param {number} i */
  has(i) { return !!this.sheets && !this.missing.has(i); }
  /**
   * A sheet is decoded once, when its first image is wanted.
   * @param {number} sheet
   */
  url(sheet) {
    if (!this.loading[sheet]) {
      const [head, body] = this.sheets[sheet].split(",");
      this.loading[sheet] = URL.createObjectURL(new Blob([bytesOf(body)], {type: head.slice(5, head.indexOf(";"))}));
      this.sheets[sheet] = "";
    }
    return this.loading[sheet];
  }
  /**
   * @param {number} i
   * @param {number} edge CSS pixels
   */
  element(i, edge) {
    const made = element("span", {className: "thumbnail"});
    made.style.width = made.style.height = `${edge}px`;
    if (!this.has(i)) return Object.assign(made, {className: "thumbnail none", textContent: "no image"});
    const sheet = Math.floor(i / this.per_sheet), place = i % this.per_sheet, zoom = edge / this.edge;
    const rows = Math.ceil(Math.min(this.per_sheet, this.n - sheet * this.per_sheet) / this.across);
    made.style.backgroundImage = `url(${this.url(sheet)})`;
    made.style.backgroundSize = `${this.across * edge}px ${rows * edge}px`;
    made.style.backgroundPosition = `${-(place % this.across) * edge}px ${-Math.floor(place / this.across) * edge}px`;
    if (zoom > 3) made.style.imageRendering = "pixelated";
    return made;
  }
}
