// @ts-check
// Which points are selected: a flag for each, for there may be a million.
"use strict";

class Selected {
  /** @param {number} n points */
  constructor(n) {
    this.flags = new Uint8Array(n);
    this.size = 0;
  }
  /** @param {number} i */
  has(i) { return this.flags[i] === 1; }
  clear() { this.flags.fill(0); this.size = 0; }
  /** @param {number} i */
  add(i) {
    this.size += 1 - this.flags[i];
    this.flags[i] = 1;
  }
  /**
   * @param {number} i
   * @returns {boolean} whether it was selected
   */
  delete(i) {
    const was = this.has(i);
    this.size -= this.flags[i];
    this.flags[i] = 0;
    return was;
  }
  /** In the order of the points. */
  list() {
    /** @type {number[]} */
    const found = [];
    for (let i = 0; i < this.flags.length; i++) if (this.flags[i]) found.push(i);
    return found;
  }
}
