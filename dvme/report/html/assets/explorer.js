// @ts-check
// Embedding maps side by side: what is hovered, selected or hidden in one is so in all.
"use strict";

const LISTED = 200; // selected images that are listed; the download has all
const LEGEND_ENTRIES = 250;
const TOOLTIP_EDGE = 144; // CSS pixels of a thumbnail that hovers

class Explorer {
  /**
   * @param {any} root the element around all maps
   * @param {any} data as dvme.report.html.explorer makes it
   * @param {boolean} isBinned whether one point is drawn for all of a place
   */
  constructor(root, data, isBinned = false) {
    this.root = root;
    /** @type {string[]} */
    this.ids = data.ids;
    this.n = this.ids.length;
    this.hovered = -1;
    this.isMoving = false;
    this.selected = new Selected(this.n);
    this.thumbnails = new Thumbnails(data.thumbnails);
    this.tokens = data.tokens.map(described => new Thumbnails(described));
    this.columns = data.columns.map(columnOf);
    this.colors = new Uint8Array(4 * this.n).fill(255);
    this.symbols = new Uint8Array(this.n);
    this.states = new Uint8Array(this.n).fill(PLAIN);
    this.painter = isBinned ? new BinnedPoints(this.n) : GLPoints.make(this.n) || new FlatPoints(this.n);
    root.dataset.painter = this.painter.constructor.name;
    const panels = [...root.querySelectorAll(".map")];
    /** @type {MapView[]} */
    this.maps = data.maps.map((described, k) => new MapView(panels[k], described, this));
    this.maps.forEach(map => attachPointer(map, this));
    this.tooltip = root.querySelector(".tooltip");
    this.colorBy(0);
    this.attachControls();
    root.dataset.ready = "yes";
  }

  pointSize() { return pointSize(this.n); }

  attachControls() {
    const find = name => this.root.querySelector(`[data-control="${name}"]`);
    find("color").onchange = event => this.colorBy(event.target.selectedIndex);
    const method = find("method");
    if (method) {
      method.onchange = () => this.showMethod(method.value);
      this.showMethod(method.value);
    }
    find("find").onsubmit = event => { event.preventDefault(); this.search(find("query").value); };
    find("closer").onclick = () => this.maps.forEach(map => map.zoom(1.4));
    find("farther").onclick = () => this.maps.forEach(map => map.zoom(1 / 1.4));
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

  /** @param {string} method */
  showMethod(method) {
    this.maps.forEach(map => { map.panel.hidden = map.method !== method; });
    this.maps.forEach(map => map.resize());
  }

  /** @param {number} position of a column */
  colorBy(position) {
    this.coloring = this.columns[position];
    this.coloring.fill(this.colors, this.symbols);
    this.drawLegend();
    this.paint();
    if (this.selected.size) this.listSelected();
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

  /**
   * @param {number} code of a category
   * @param {boolean} isAlone
   */
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
    if (this.selected.size) this.listSelected();
  }

  /**
   * @param {number} i a point, or -1
   * @param {MapView | null} map where it is pointed at
   */
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

  /** @param {number} i */
  facts(i) { return this.columns.map(column => [column.name, column.text(i)]).filter(([, text]) => text !== ""); }

  /** @param {number} i */
  sentence(i) { return [this.ids[i], ...this.facts(i).map(([name, text]) => `${name} ${text}`)].join(", "); }

  /** @param {number} i */
  described(i) {
    const list = element("dl");
    for (const [name, text] of this.facts(i)) {
      list.append(element("dt", {textContent: name}), element("dd", {textContent: text}));
    }
    const made = element("div", {}, element("strong", {textContent: this.ids[i]}), list);
    const pictures = this.tokens.map(tokens => element("figure", {}, tokens.element(i, TOOLTIP_EDGE),
      element("figcaption", {textContent: `tokens of ${tokens.name}`})));
    if (this.thumbnails.sheets) pictures.unshift(this.thumbnails.element(i, TOOLTIP_EDGE));
    if (pictures.length) made.prepend(element("div", {className: "pictures"}, ...pictures));
    return made;
  }

  /** @param {Iterable<number>} indices */
  select(indices, {isAdding = false} = {}) {
    if (!isAdding) this.selected.clear();
    for (const i of indices) this.selected.add(i);
    this.showSelected();
  }

  /** @param {number} i */
  toggleSelected(i) {
    if (!this.selected.delete(i)) this.selected.add(i);
    this.showSelected();
  }

  showSelected() {
    this.paint();
    this.listSelected();
  }

  listSelected() {
    const {root, selected} = this, chosen = this.chosen();
    const nHidden = chosen.filter(i => this.states[i] === HIDDEN).length;
    const share = (selected.size ? this.shares(chosen) : "") + (nHidden ? ` (${nHidden.toLocaleString("en")} of them hidden)` : "");
    root.querySelector("[data-count]").textContent =
      selected.size ? `${selected.size.toLocaleString("en")} selected${share}` : "nothing selected";
    for (const name of ["clear", "copy", "download"]) {
      root.querySelector(`[data-control="${name}"]`).disabled = !selected.size;
    }
    clearTimeout(this.listing); // the maps answer first, the list may follow
    this.listing = setTimeout(() => this.fillList(chosen), 20);
  }

  /** @param {number[]} chosen */
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

  /**
   * How the selection falls on what the points are coloured by.
   * @param {number[]} chosen
   */
  shares(chosen) {
    if (!(this.coloring instanceof Category)) return "";
    const counts = new Map();
    for (const i of chosen) counts.set(this.coloring.codes[i], (counts.get(this.coloring.codes[i]) || 0) + 1);
    const parts = [...counts].sort((one, other) => other[1] - one[1]).slice(0, 4)
      .map(([code, count]) => `${this.coloring.values[code] || "(none)"} ${Math.round(100 * count / chosen.length)}%`);
    return `: ${parts.join(", ")}${counts.size > 4 ? ", …" : ""}`;
  }

  chosen() { return this.selected.list(); }

  /** @param {string} text */
  search(text) {
    const wanted = text.trim().toLowerCase();
    const found = wanted ? this.ids.flatMap((id, i) => id.toLowerCase().includes(wanted) ? [i] : []) : [];
    this.select(found);
    this.hover(found.length === 1 ? found[0] : -1);
    if (wanted && !found.length) this.root.querySelector("[data-count]").textContent = `no id contains “${text.trim()}”`;
  }

  async copy() {
    const text = this.chosen().map(i => this.ids[i]).join("\n");
    let isCopied = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch (error) { // not every browser lets a local file use the clipboard
      const area = element("textarea", {value: text});
      document.body.append(area);
      area.select();
      isCopied = document.execCommand("copy");
      area.remove();
    }
    this.root.querySelector("[data-count]").textContent = isCopied ?
      `${this.selected.size.toLocaleString("en")} ids copied` : "this browser does not let a page copy; download the CSV";
  }

  download() {
    // A spreadsheet takes a cell that begins so for a formula.
    const isFormula = text => /^[\s\u0000-\u001f]*[=+\-@]/.test(text) && !/^[+-]?[\d.]+%?$/.test(text);
    const cell = text => `"${(isFormula(text) ? "'" : "") + text.replace(/"/g, '""')}"`;
    const line = cells => `${cells.map(cell).join(",")}\r\n`, {ids, columns} = this;
    const lines = this.chosen().map(i => line([ids[i], ...columns.map(column => column.text(i))]));
    const head = line(["id", ...columns.map(column => column.name)]);
    const url = URL.createObjectURL(new Blob([head, ...lines], {type: "text/csv"}));
    element("a", {href: url, download: "selected.csv"}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}

/** @param {HTMLElement} root */
function startExplorer(root) {
  const holder = document.getElementById("explorer-data"), read = () => JSON.parse(holder.textContent);
  const reading = root.querySelector("[data-reading]"); // there where the data are packed
  if (!reading) {
    window.explorer = new Explorer(root, read());
    return;
  }
  const unpack = async () => {
    const data = await unpacked(read());
    holder.remove();
    window.explorer = new Explorer(root, data, true);
    reading.remove();
  };
  requestAnimationFrame(() => setTimeout(() => unpack().catch(error => { // the first paint does not wait
    reading.textContent = `This browser cannot show the maps: ${error.message}. One of 2023 or later can.`;
  })));
}

const explorerRoot = /** @type {HTMLElement} */ (document.querySelector(".explorer"));
if (explorerRoot) startExplorer(explorerRoot);
