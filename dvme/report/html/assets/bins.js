// @ts-check
// Draws many points: one for all that fall into a square of pixels, and each by itself where few are in sight.
"use strict";

const MOST_STAMPED = 20000; // points in sight that are drawn one by one
const FAINTEST = 0.4; // how opaque a square of one point is, or one of which least is selected; at most it is 1

/**
 * A number that has nothing to do with the order of points: it says which of a square is drawn, in every view the same.
 * @param {number} i
 * @returns {number} below 2 ** 30
 */
function lotOf(i) {
  let lot = Math.imul(i + 1, 0x9E3779B1);
  lot = Math.imul(lot ^ (lot >>> 15), 0x85EBCA77);
  return (lot ^ (lot >>> 13)) >>> 2;
}

class BinnedPoints extends FlatPoints {
  /** @param {number} n points */
  constructor(n) {
    super(n);
    this.lots = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.lots[i] = lotOf(i);
    this.canvas = document.createElement("canvas");
  }

  /**
   * Squares with what they hold.
   * @param {Float32Array} places
   * @param {View} view
   * @param {number} edge device pixels of a square
   * @param {number} columns
   * @param {number} rows
   */
  binned(places, view, edge, columns, rows) {
    const {states, lots, n} = this, scale = view.scale / edge, left = view.x / edge, top = view.y / edge;
    const counts = new Uint32Array(columns * rows), chosen = new Uint32Array(columns * rows);
    const drawn = new Int32Array(columns * rows);
    const highest = new Uint32Array(columns * rows); // state, then lot: what is chosen is in front
    let inSight = 0;
    for (let i = 0; i < n; i++) {
      if (states[i] === HIDDEN) continue;
      const x = Math.floor(places[2 * i] * scale + left), y = Math.floor(places[2 * i + 1] * scale + top);
      if (x < 0 || x >= columns || y < 0 || y >= rows) continue;
      const bin = y * columns + x, rank = ((states[i] << 30) | lots[i]) >>> 0;
      inSight++;
      counts[bin]++;
      if (states[i] === CHOSEN) chosen[bin]++;
      if (rank >= highest[bin]) { highest[bin] = rank; drawn[bin] = i; }
    }
    return {counts, chosen, drawn, inSight};
  }

  /**
   * @param {HTMLCanvasElement} target
   * @param {Float32Array} places
   * @param {View} view
   * @param {number} size device pixels of a point that is drawn by itself; a square has half as many
   */
  draw(target, places, view, size) {
    const edge = Math.max(1, Math.round(size / 2));
    const columns = Math.ceil(target.width / edge), rows = Math.ceil(target.height / edge);
    const {counts, chosen, drawn, inSight} = this.binned(places, view, edge, columns, rows);
    if (inSight <= MOST_STAMPED) {
      super.draw(target, places, view, size * pointSize(inSight) / pointSize(this.n));
      return;
    }
    Object.assign(this.canvas, {width: columns, height: rows});
    const picture = new ImageData(columns, rows), {colors, states} = this;
    const most = Math.log(counts.reduce((one, other) => Math.max(one, other), 2));
    counts.forEach((count, bin) => {
      if (!count) return;
      const i = drawn[bin], share = states[i] === PLAIN ? Math.log(count) / most : chosen[bin] / count;
      picture.data.set(colors.subarray(4 * i, 4 * i + 4), 4 * bin);
      if (states[i] !== DIM) picture.data[4 * bin + 3] = 255 * (FAINTEST + (1 - FAINTEST) * share);
    });
    this.canvas.getContext("2d").putImageData(picture, 0, 0);
    const flat = target.getContext("2d");
    flat.clearRect(0, 0, target.width, target.height);
    flat.imageSmoothingEnabled = false;
    flat.drawImage(this.canvas, 0, 0, columns * edge, rows * edge);
  }
}
