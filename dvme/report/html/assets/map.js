// @ts-check
// One map: its canvases, its window, and how it is pointed at.
"use strict";

const MARGIN = 14; // CSS pixels between the points and the frame of a map
const BANDS = 512; // of a lasso, from top to bottom

class MapView {
  /** @type {View} */ view;

  /**
   * @param {HTMLElement} panel
   * @param {{name: string, method: string, places: string | Float32Array}} described
   * @param {Explorer} explorer
   */
  constructor(panel, described, explorer) {
    this.panel = panel;
    this.explorer = explorer;
    this.name = described.name;
    this.method = described.method;
    const places = floatsOf(described.places); // y grows upwards in the data, downwards on the screen
    for (let i = 1; i < places.length; i += 2) places[i] = -places[i];
    this.places = places;
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < places.length; i += 2) {
      left = Math.min(left, places[i]); right = Math.max(right, places[i]);
      top = Math.min(top, places[i + 1]); bottom = Math.max(bottom, places[i + 1]);
    }
    this.box = {left, right, top, bottom};
    this.stage = panel.querySelector(".stage");
    this.width = this.height = 0; // device pixels of the last drawing
    this.points = element("canvas");
    this.overlay = element("canvas", {tabIndex: 0});
    this.overlay.setAttribute("role", "application");
    this.overlay.setAttribute("aria-label", `${described.method} map of ${described.name}, ${explorer.n} images. ` +
      "Arrow keys go to the next image, Enter selects it, Escape clears, plus and minus zoom.");
    this.stage.append(this.points, this.overlay);
    this.ratio = 1;
    new ResizeObserver(() => this.resize()).observe(this.stage);
  }

  get isShown() { return !this.panel.hidden && this.stage.clientWidth > 0; }

  resize() {
    if (!this.isShown) return;
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    for (const canvas of [this.points, this.overlay]) {
      canvas.width = Math.round(this.stage.clientWidth * this.ratio);
      canvas.height = Math.round(this.stage.clientHeight * this.ratio);
    }
    const {width, height} = this.points, grown = this.width ? Math.min(width / this.width, height / this.height) : 0;
    if (!grown) this.reset();
    else { // what was in the middle stays there
      const {scale, x, y} = this.view;
      this.view = {scale: scale * grown, x: width / 2 + (x - this.width / 2) * grown, y: height / 2 + (y - this.height / 2) * grown};
      this.draw();
    }
    Object.assign(this, {width, height});
  }

  reset() {
    const {left, right, top, bottom} = this.box, margin = MARGIN * this.ratio;
    const {width, height} = this.points;
    const scale = Math.min((width - 2 * margin) / (right - left || 1), (height - 2 * margin) / (bottom - top || 1));
    this.view = {scale, x: width / 2 - scale * (left + right) / 2, y: height / 2 - scale * (top + bottom) / 2};
    this.draw();
  }

  /**
   * @param {number} factor
   * @param {number} x device pixels of what stays where it is
   * @param {number} y
   */
  zoom(factor, x = this.points.width / 2, y = this.points.height / 2) {
    const {view} = this;
    if (!view) return; // a map that was never shown
    this.view = {scale: view.scale * factor, x: x + (view.x - x) * factor, y: y + (view.y - y) * factor};
    this.draw();
  }

  /**
   * Move as little as it takes to see a point.
   * @param {number} i
   */
  show(i) {
    const margin = MARGIN * this.ratio, {width, height} = this.points, x = this.x(i), y = this.y(i);
    const inside = (/** @type {number} */ value, /** @type {number} */ end) =>
      Math.min(Math.max(value, margin), end - margin) - value;
    if (inside(x, width) || inside(y, height)) this.pan(inside(x, width), inside(y, height));
  }

  /**
   * @param {number} x device pixels
   * @param {number} y
   */
  pan(x, y) { this.view.x += x; this.view.y += y; this.draw(); }

  draw() {
    if (!this.isShown || !this.view) return;
    this.explorer.painter.draw(this.points, this.places, this.view, this.explorer.pointSize() * this.ratio);
    this.drawOverlay();
  }

  /** @param {number} i */
  x(i) { return this.places[2 * i] * this.view.scale + this.view.x; }
  /** @param {number} i */
  y(i) { return this.places[2 * i + 1] * this.view.scale + this.view.y; }

  /** @param {number[][]} lasso corners */
  drawOverlay(lasso = []) {
    if (!this.isShown || !this.view) return;
    const flat = this.overlay.getContext("2d"), ink = getComputedStyle(this.stage).color;
    flat.clearRect(0, 0, this.overlay.width, this.overlay.height);
    flat.strokeStyle = ink;
    if (lasso.length) {
      flat.lineWidth = 1.5 * this.ratio;
      flat.setLineDash([5 * this.ratio, 4 * this.ratio]);
      flat.beginPath();
      lasso.forEach(([x, y], k) => k ? flat.lineTo(x, y) : flat.moveTo(x, y));
      flat.closePath();
      flat.stroke();
      flat.setLineDash([]);
    }
    const i = this.explorer.hovered;
    if (i < 0) return;
    flat.lineWidth = 2.5 * this.ratio;
    flat.beginPath();
    flat.arc(this.x(i), this.y(i), (this.explorer.pointSize() / 2 + 5) * this.ratio, 0, 2 * Math.PI);
    flat.stroke();
  }

  /**
   * The point that is shown and nearest to a place; -1 where none is near enough.
   * @param {number} x device pixels
   * @param {number} y
   */
  nearest(x, y, within = Infinity) {
    const {states} = this.explorer;
    let best = -1, least = within * within;
    for (let i = 0; i < this.explorer.n; i++) {
      if (states[i] === HIDDEN) continue;
      const dx = this.x(i) - x, dy = this.y(i) - y, distance = dx * dx + dy * dy;
      if (distance < least) { least = distance; best = i; }
    }
    return best;
  }

  /**
   * The next point from i in a direction: near, and not far off to the side.
   * @param {number} i
   * @param {number} dx
   * @param {number} dy
   */
  beside(i, dx, dy) {
    const {states} = this.explorer, x = this.x(i), y = this.y(i);
    let best = i, least = Infinity;
    for (let j = 0; j < this.explorer.n; j++) {
      if (j === i || states[j] === HIDDEN) continue;
      const ahead = (this.x(j) - x) * dx + (this.y(j) - y) * dy;
      const aside = Math.abs((this.x(j) - x) * dy) + Math.abs((this.y(j) - y) * dx);
      if (ahead > 0.5 && ahead + 3 * aside < least) { least = ahead + 3 * aside; best = j; }
    }
    return best;
  }

  /**
   * Points that are shown and lie inside.
   * @param {number[][]} polygon corners in device pixels
   */
  enclosed(polygon) {
    /** @type {number[]} */
    const found = [];
    const {states} = this.explorer;
    const xs = polygon.map(corner => corner[0]), ys = polygon.map(corner => corner[1]);
    const left = Math.min(...xs), right = Math.max(...xs), top = Math.min(...ys), bottom = Math.max(...ys);
    const bandAt = (/** @type {number} */ y) => Math.floor((y - top) / (bottom - top || 1) * (BANDS - 1));
    /** @type {number[][]} */
    const bands = Array.from({length: BANDS}, () => []); // sides that a level line may cross
    ys.forEach((y, k) => {
      const other = ys.at(k - 1), last = bandAt(Math.max(y, other));
      for (let band = bandAt(Math.min(y, other)); band <= last; band++) bands[band].push(k);
    });
    for (let i = 0; i < this.explorer.n; i++) {
      if (states[i] === HIDDEN) continue;
      const x = this.x(i), y = this.y(i);
      if (x < left || x > right || y < top || y > bottom) continue;
      let isInside = false;
      for (const k of bands[bandAt(y)]) {
        const m = k ? k - 1 : polygon.length - 1;
        if ((ys[k] > y) !== (ys[m] > y) && x < (xs[m] - xs[k]) * (y - ys[k]) / (ys[m] - ys[k]) + xs[k]) {
          isInside = !isInside;
        }
      }
      if (isInside) found.push(i);
    }
    return found;
  }
}

// Drag draws a lasso (or moves the map), click takes one point, the wheel zooms, arrows walk from point to point.
function attachPointer(map, explorer) {
  const {overlay} = map;
  const place = event => {
    const frame = overlay.getBoundingClientRect();
    return [(event.clientX - frame.left) * map.ratio, (event.clientY - frame.top) * map.ratio];
  };
  let path = null, before = null;
  const fingers = new Map(); // two of them pinch
  const spread = () => {
    const [one, other] = [...fingers.values()];
    return {size: Math.hypot(one[0] - other[0], one[1] - other[1]), x: (one[0] + other[0]) / 2, y: (one[1] + other[1]) / 2};
  };
  overlay.onpointerdown = event => {
    if (event.button > 1) return;
    fingers.set(event.pointerId, place(event));
    if (fingers.size === 2) { path = before = null; map.drawOverlay(); return; }
    overlay.setPointerCapture(event.pointerId);
    overlay.focus({preventScroll: true});
    before = place(event);
    path = explorer.isMoving || event.button === 1 || event.altKey ? null : [before];
    explorer.hover(-1);
  };
  overlay.onpointermove = event => {
    const [x, y] = place(event);
    if (fingers.size === 2 && fingers.has(event.pointerId)) {
      const old = spread();
      fingers.set(event.pointerId, [x, y]);
      const now = spread();
      map.zoom(now.size / (old.size || 1), now.x, now.y);
      map.pan(now.x - old.x, now.y - old.y);
    } else if (!before) explorer.hover(map.nearest(x, y, 14 * map.ratio), map);
    else if (path) { path.push([x, y]); map.drawOverlay(path); }
    else { map.pan(x - before[0], y - before[1]); before = [x, y]; }
  };
  overlay.onpointerup = event => {
    const lasso = path, isAdding = event.shiftKey || event.ctrlKey || event.metaKey;
    path = before = null;
    fingers.delete(event.pointerId);
    if (!lasso) return;
    const [x, y] = place(event), moved = Math.hypot(x - lasso[0][0], y - lasso[0][1]);
    if (lasso.length < 4 && moved < 5 * map.ratio) {
      const i = map.nearest(x, y, 14 * map.ratio);
      if (isAdding && i >= 0) explorer.toggleSelected(i);
      else explorer.select(i < 0 ? [] : [i]);
    } else explorer.select(map.enclosed(lasso), {isAdding});
  };
  overlay.onpointercancel = event => { fingers.delete(event.pointerId); path = before = null; map.drawOverlay(); };
  overlay.onpointerleave = () => { if (!before) explorer.hover(-1); };
  overlay.addEventListener("wheel", event => {
    if (!event.ctrlKey && document.activeElement !== overlay) return; // scrolling past a map is scrolling
    event.preventDefault();
    map.zoom(Math.exp(-event.deltaY / 400), ...place(event));
  }, {passive: false});
  overlay.ondblclick = () => map.reset();
  overlay.onblur = () => explorer.hover(-1);
  const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  overlay.onkeydown = event => {
    const i = explorer.hovered;
    if (event.key in steps) {
      const start = map.nearest(overlay.width / 2, overlay.height / 2);
      const next = i < 0 ? start : map.beside(i, ...steps[event.key]);
      if (next >= 0) { map.show(next); explorer.hover(next, map); }
    } else if ((event.key === "Enter" || event.key === " ") && i >= 0) explorer.toggleSelected(i);
    else if (event.key === "Escape") explorer.select([]);
    else if (event.key === "+" || event.key === "=") map.zoom(1.25);
    else if (event.key === "-") map.zoom(0.8);
    else if (event.key === "0") map.reset();
    else return;
    event.preventDefault();
  };
}
