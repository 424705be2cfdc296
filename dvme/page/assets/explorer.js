// Embedding maps side by side: what is hovered, selected or hidden in one is so in all.
"use strict";

const LISTED = 200; // selected images that are listed; the download has all
const MARGIN = 14; // CSS pixels between the points and the frame of a map
const LEGEND_ENTRIES = 250;
const TOOLTIP_EDGE = 144; // CSS pixels of a thumbnail that hovers

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class Thumbnails {
  constructor(described) {
    if (described) {
      Object.assign(this, described, {missing: new Set(described.missing)});
      this.loading = this.sheets.map(() => null);
    }
  }
  has(i) { return !!this.sheets && !this.missing.has(i); }
  // A sheet is decoded once, when its first image is wanted.
  url(sheet) {
    if (!this.loading[sheet]) {
      const [head, body] = this.sheets[sheet].split(",");
      this.loading[sheet] = URL.createObjectURL(new Blob([bytesOf(body)], {type: head.slice(5, head.indexOf(";"))}));
      this.sheets[sheet] = "";
    }
    return this.loading[sheet];
  }
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

// One map: its canvases, and the window through which its points are seen.
class MapView {
  constructor(panel, described, explorer) {
    Object.assign(this, {panel, explorer, name: described.name, method: described.method});
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
    this.reset();
  }

  reset() {
    const {left, right, top, bottom} = this.box, margin = MARGIN * this.ratio;
    const {width, height} = this.points;
    const scale = Math.min((width - 2 * margin) / (right - left || 1), (height - 2 * margin) / (bottom - top || 1));
    this.view = {scale, x: width / 2 - scale * (left + right) / 2, y: height / 2 - scale * (top + bottom) / 2};
    this.draw();
  }

  zoom(factor, x = this.points.width / 2, y = this.points.height / 2) {
    const {view} = this;
    this.view = {scale: view.scale * factor, x: x + (view.x - x) * factor, y: y + (view.y - y) * factor};
    this.draw();
  }

  pan(x, y) { this.view.x += x; this.view.y += y; this.draw(); }

  draw() {
    if (!this.isShown || !this.view) return;
    this.explorer.painter.draw(this.points, this.places, this.view, this.explorer.pointSize() * this.ratio);
    this.drawOverlay();
  }

  x(i) { return this.places[2 * i] * this.view.scale + this.view.x; }
  y(i) { return this.places[2 * i + 1] * this.view.scale + this.view.y; }

  drawOverlay(lasso = null) {
    if (!this.isShown || !this.view) return;
    const flat = this.overlay.getContext("2d"), ink = getComputedStyle(this.stage).color;
    flat.clearRect(0, 0, this.overlay.width, this.overlay.height);
    flat.strokeStyle = ink;
    if (lasso && lasso.length) {
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

  // The next point from i in a direction: near, and not far off to the side.
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

  enclosed(polygon) {
    const found = [], {states} = this.explorer;
    const xs = polygon.map(corner => corner[0]), ys = polygon.map(corner => corner[1]);
    const left = Math.min(...xs), right = Math.max(...xs), top = Math.min(...ys), bottom = Math.max(...ys);
    for (let i = 0; i < this.explorer.n; i++) {
      if (states[i] === HIDDEN) continue;
      const x = this.x(i), y = this.y(i);
      if (x < left || x > right || y < top || y > bottom) continue;
      let isInside = false;
      for (let k = 0, m = polygon.length - 1; k < polygon.length; m = k++) {
        if ((ys[k] > y) !== (ys[m] > y) && x < (xs[m] - xs[k]) * (y - ys[k]) / (ys[m] - ys[k]) + xs[k]) {
          isInside = !isInside;
        }
      }
      if (isInside) found.push(i);
    }
    return found;
  }
}

class Explorer {
  constructor(root, data) {
    Object.assign(this, {root, ids: data.ids, n: data.ids.length, hovered: -1, selected: new Set()});
    this.thumbnails = new Thumbnails(data.thumbnails);
    this.columns = data.columns.map(columnOf);
    this.colors = new Uint8Array(4 * this.n).fill(255);
    this.symbols = new Uint8Array(this.n);
    this.states = new Uint8Array(this.n).fill(PLAIN);
    this.painter = GLPoints.make(this.n) || new FlatPoints(this.n);
    root.dataset.painter = this.painter.constructor.name;
    const panels = [...root.querySelectorAll(".map")];
    this.maps = data.maps.map((described, k) => new MapView(panels[k], described, this));
    this.maps.forEach(map => attachPointer(map, this));
    this.tooltip = root.querySelector(".tooltip");
    this.colorBy(0);
    this.attachControls();
    root.dataset.ready = "yes";
  }

  pointSize() { return this.n < 400 ? 11 : this.n < 5000 ? 8 : this.n < 20000 ? 6 : 4; }

  attachControls() {
    const find = name => this.root.querySelector(`[data-control="${name}"]`);
    find("color").onchange = event => this.colorBy(event.target.selectedIndex);
    const method = find("method");
    if (method) {
      method.onchange = () => this.showMethod(method.value);
      this.showMethod(method.value);
    }
    find("find").onsubmit = event => { event.preventDefault(); this.search(find("query").value); };
    find("reset").onclick = () => this.maps.forEach(map => map.reset());
    find("clear").onclick = () => this.select([]);
    find("copy").onclick = () => this.copy();
    find("download").onclick = () => this.download();
    find("move").onclick = event => {
      this.isMoving = !this.isMoving;
      event.target.setAttribute("aria-pressed", this.isMoving);
      this.root.classList.toggle("moving", this.isMoving);
    };
    document.addEventListener("dvme-theme", () => this.draw());
  }

  showMethod(method) {
    this.maps.forEach(map => { map.panel.hidden = map.method !== method; });
    this.maps.forEach(map => map.resize());
  }

  colorBy(position) {
    this.coloring = this.columns[position];
    this.coloring.fill(this.colors, this.symbols);
    this.drawLegend();
    this.paint();
  }

  paint() {
    const {states, colors, selected} = this, isAny = selected.size > 0;
    for (let i = 0; i < this.n; i++) {
      const isHidden = this.coloring.isHidden(i);
      states[i] = isHidden ? HIDDEN : !isAny ? PLAIN : selected.has(i) ? CHOSEN : DIM;
      colors[4 * i + 3] = states[i] === DIM ? 46 : states[i] === CHOSEN ? 255 : 205;
    }
    this.painter.paint(colors, this.symbols, states);
    this.draw();
  }

  draw() { this.maps.forEach(map => map.draw()); }

  drawLegend() {
    const legend = this.root.querySelector(".swatches"), {coloring} = this;
    legend.replaceChildren();
    if (coloring instanceof Numbers) {
      const bar = element("span", {className: "scale"});
      bar.style.background = `linear-gradient(90deg, ${SCALE.join(",")})`;
      const [low, high] = [coloring.low, coloring.high].map(value => Number.isFinite(value) ? +value.toPrecision(3) : "");
      legend.append(String(low), bar, String(high));
      return;
    }
    if (coloring.values.length > LEGEND_ENTRIES) {
      legend.append(`${coloring.values.length.toLocaleString("en")} different values: too many for a legend`);
      return;
    }
    coloring.values.forEach((value, code) => {
      const mark = element("canvas", {width: 28, height: 28}), flat = mark.getContext("2d");
      flat.setTransform(13, 0, 0, 13, 14, 14);
      flat.fillStyle = coloring.hex(code);
      flat.fill(outline(SYMBOLS[coloring.symbol(code)]));
      const name = value === "" ? "(none)" : value;
      const text = element("span", {textContent: `${name} (${coloring.counts[code].toLocaleString("en")})`});
      const entry = element("button", {type: "button", title: `${name}: click hides or shows, double-click shows it alone`}, mark, text);
      entry.setAttribute("aria-pressed", !coloring.hidden.has(code));
      entry.onclick = event => this.toggle(code, event.shiftKey);
      entry.ondblclick = () => this.toggle(code, true);
      legend.append(entry);
    });
  }

  toggle(code, isAlone) {
    const {hidden, values} = this.coloring;
    if (isAlone) {
      const wasAlone = hidden.size === values.length - 1 && !hidden.has(code);
      hidden.clear();
      if (!wasAlone) values.forEach((_, other) => { if (other !== code) hidden.add(other); });
    } else if (!hidden.delete(code)) hidden.add(code);
    [...this.root.querySelectorAll(".swatches button")].forEach((entry, other) =>
      entry.setAttribute("aria-pressed", !hidden.has(other)));
    this.paint();
  }

  hover(i, map = null) {
    if (i !== this.hovered) {
      this.hovered = i;
      this.maps.forEach(each => each.drawOverlay());
      this.tooltip.replaceChildren();
      if (i >= 0) this.tooltip.append(this.described(i));
      this.root.querySelector("[data-announce]").textContent = i < 0 ? "" : this.sentence(i);
    }
    this.tooltip.hidden = i < 0 || !map;
    if (this.tooltip.hidden) return;
    const frame = map.stage.getBoundingClientRect();
    const x = frame.left + map.x(i) / map.ratio, y = frame.top + map.y(i) / map.ratio;
    const {offsetWidth: width, offsetHeight: height} = this.tooltip;
    const left = x + 18 + width < window.innerWidth ? x + 18 : Math.max(4, x - 18 - width);
    this.tooltip.style.left = `${left}px`;
    this.tooltip.style.top = `${Math.max(4, Math.min(y - height / 2, window.innerHeight - height - 4))}px`;
  }

  facts(i) { return this.columns.map(column => [column.name, column.text(i)]).filter(([, text]) => text !== ""); }

  sentence(i) { return [this.ids[i], ...this.facts(i).map(([name, text]) => `${name} ${text}`)].join(", "); }

  described(i) {
    const list = element("dl");
    for (const [name, text] of this.facts(i)) {
      list.append(element("dt", {textContent: name}), element("dd", {textContent: text}));
    }
    const made = element("div", {}, element("strong", {textContent: this.ids[i]}), list);
    if (this.thumbnails.sheets) made.prepend(this.thumbnails.element(i, TOOLTIP_EDGE));
    return made;
  }

  select(indices, {isAdding = false} = {}) {
    if (!isAdding) this.selected = new Set(indices);
    else for (const i of indices) if (!this.selected.delete(i)) this.selected.add(i);
    this.paint();
    this.listSelected();
  }

  listSelected() {
    const {root, selected} = this, chosen = this.chosen();
    const share = selected.size ? this.shares(chosen) : "";
    root.querySelector("[data-count]").textContent =
      selected.size ? `${selected.size.toLocaleString("en")} selected${share}` : "nothing selected";
    for (const name of ["clear", "copy", "download"]) {
      root.querySelector(`[data-control="${name}"]`).disabled = !selected.size;
    }
    clearTimeout(this.listing); // the maps answer first, the list may follow
    this.listing = setTimeout(() => this.fillList(chosen), 20);
  }

  fillList(chosen) {
    const {root} = this, table = root.querySelector(".selected tbody");
    root.querySelector(".selected").hidden = !chosen.length;
    table.replaceChildren(...chosen.slice(0, LISTED).map(i => {
      const row = element("tr", {onmouseenter: () => this.hover(i), onmouseleave: () => this.hover(-1)});
      if (this.thumbnails.sheets) row.append(element("td", {}, this.thumbnails.element(i, 40)));
      row.append(element("td", {textContent: this.ids[i]}));
      row.append(...this.columns.map(column => element("td", {textContent: column.text(i)})));
      return row;
    }));
    root.querySelector("[data-more]").textContent = chosen.length > LISTED ?
      `The first ${LISTED} are listed; the download has all ${chosen.length.toLocaleString("en")}.` : "";
  }

  // How the selection falls on what the points are coloured by.
  shares(chosen) {
    if (!(this.coloring instanceof Category)) return "";
    const counts = new Map();
    for (const i of chosen) counts.set(this.coloring.codes[i], (counts.get(this.coloring.codes[i]) || 0) + 1);
    const parts = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 4)
      .map(([code, count]) => `${this.coloring.values[code] || "(none)"} ${Math.round(100 * count / chosen.length)}%`);
    return `: ${parts.join(", ")}${counts.size > 4 ? ", …" : ""}`;
  }

  chosen() { return [...this.selected].sort((one, other) => one - other); }

  search(text) {
    const wanted = text.trim().toLowerCase();
    const found = wanted ? this.ids.flatMap((id, i) => id.toLowerCase().includes(wanted) ? [i] : []) : [];
    this.select(found);
    this.hover(found.length === 1 ? found[0] : -1);
    if (wanted && !found.length) this.root.querySelector("[data-count]").textContent = `no id contains “${text.trim()}”`;
  }

  async copy() {
    const text = this.chosen().map(i => this.ids[i]).join("\n");
    try {
      await navigator.clipboard.writeText(text);
    } catch (error) { // not every browser lets a local file use the clipboard
      const area = element("textarea", {value: text});
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    this.root.querySelector("[data-count]").textContent = `${this.selected.size.toLocaleString("en")} ids copied`;
  }

  download() {
    // A spreadsheet takes a cell that begins so for a formula.
    const cell = text => `"${(/^[=+\-@\t\r]/.test(text) && !/^[+-]?[\d.]+%?$/.test(text) ? "'" : "") + text.replace(/"/g, '""')}"`;
    const lines = this.chosen().map(i => [this.ids[i], ...this.columns.map(column => column.text(i))]);
    const text = [["id", ...this.columns.map(column => column.name)], ...lines].map(line => line.map(cell).join(",")).join("\r\n");
    const url = URL.createObjectURL(new Blob([`${text}\r\n`], {type: "text/csv"}));
    element("a", {href: url, download: "selected.csv"}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
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
  overlay.onpointerdown = event => {
    if (event.button > 1) return;
    overlay.setPointerCapture(event.pointerId);
    overlay.focus({preventScroll: true});
    before = place(event);
    path = explorer.isMoving || event.button === 1 || event.altKey ? null : [before];
    explorer.hover(-1);
  };
  overlay.onpointermove = event => {
    const [x, y] = place(event);
    if (!before) explorer.hover(map.nearest(x, y, 14 * map.ratio), map);
    else if (path) { path.push([x, y]); map.drawOverlay(path); }
    else { map.pan(x - before[0], y - before[1]); before = [x, y]; }
  };
  overlay.onpointerup = event => {
    const lasso = path, isAdding = event.shiftKey || event.ctrlKey || event.metaKey;
    path = before = null;
    if (!lasso) return;
    const [x, y] = place(event), moved = Math.hypot(x - lasso[0][0], y - lasso[0][1]);
    if (lasso.length < 4 && moved < 5 * map.ratio) {
      const i = map.nearest(x, y, 14 * map.ratio);
      explorer.select(i < 0 ? [] : [i], {isAdding: isAdding && i >= 0});
    } else explorer.select(map.enclosed(lasso), {isAdding});
  };
  overlay.onpointercancel = () => { path = before = null; map.drawOverlay(); };
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
      if (start >= 0) explorer.hover(i < 0 ? start : map.beside(i, ...steps[event.key]), map);
    } else if ((event.key === "Enter" || event.key === " ") && i >= 0) explorer.select([i], {isAdding: true});
    else if (event.key === "Escape") explorer.select([]);
    else if (event.key === "+" || event.key === "=") map.zoom(1.25);
    else if (event.key === "-") map.zoom(0.8);
    else if (event.key === "0") map.reset();
    else return;
    event.preventDefault();
  };
}

const explorerRoot = document.querySelector(".explorer");
if (explorerRoot) {
  window.explorer = new Explorer(explorerRoot, JSON.parse(document.getElementById("explorer-data").textContent));
}
