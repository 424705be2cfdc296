// @ts-check
// Draws points on canvases: WebGL where there is one, plain 2D canvas otherwise.
"use strict";

const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "cross", "x", "star", "triangle-down"];
const HIDDEN = 0, DIM = 1, PLAIN = 2, CHOSEN = 3; // states of a point, drawn in this order

const VERTEX = `#version 300 es
in vec2 place; in vec4 color; in float symbol; in float state;
uniform vec4 view; uniform float size; uniform float layer; // view: scale x, y, shift x, y
flat out vec4 ink; flat out float shape; flat out float edge;
void main() {
  bool shown = abs(state - layer) < 0.5;
  gl_Position = shown ? vec4(place * view.xy + view.zw, 0.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size * (state > 2.5 ? 1.25 : 1.0);
  ink = color; shape = symbol; edge = gl_PointSize;
}`;

// Signed distances in a square of side 2; below 0 is inside.
const FRAGMENT = `#version 300 es
precision mediump float;
flat in vec4 ink; flat in float shape; flat in float edge; out vec4 result;
float box(vec2 p, vec2 half_side) { vec2 d = abs(p) - half_side; return max(d.x, d.y); }
float triangle(vec2 p) { return max(abs(p.x) * 0.866 + p.y * 0.5 - 0.45, -p.y - 0.62); }
float inside(vec2 p, int s) {
  if (s == 0) return length(p) - 0.74;
  if (s == 1) return abs(p.x) + abs(p.y) - 0.9;
  if (s == 2) return box(p, vec2(0.64));
  if (s == 3) return triangle(vec2(p.x, p.y));
  if (s == 4) return min(box(p, vec2(0.85, 0.3)), box(p, vec2(0.3, 0.85)));
  vec2 q = vec2(p.x + p.y, p.x - p.y) * 0.7071;
  if (s == 5) return min(box(q, vec2(0.9, 0.28)), box(q, vec2(0.28, 0.9)));
  if (s == 6) {
    float angle = atan(p.x, p.y), turn = 1.2566;
    float sector = abs(mod(angle + turn * 0.5, turn) - turn * 0.5);
    return length(p) * (0.62 + 0.75 * sector) - 0.62;
  }
  return triangle(vec2(p.x, -p.y));
}
void main() {
  vec2 p = gl_PointCoord * 2.0 - 1.0; p.y = -p.y;
  float alpha = clamp(0.5 - inside(p, int(shape + 0.5)) * edge * 0.5, 0.0, 1.0) * ink.a;
  if (alpha <= 0.0) discard;
  result = vec4(ink.rgb * alpha, alpha);
}`;

/**
 * CSS pixels of a point: the more there are, the smaller.
 * @param {number} n
 */
function pointSize(n) { return n < 400 ? 11 : n < 5000 ? 8 : n < 20000 ? 6 : 4; }

/**
 * The same outlines for the 2D canvas, in a square of side 2.
 * @param {string} symbol one of SYMBOLS
 * @returns {Path2D}
 */
function outline(symbol) {
  const path = new Path2D();
  const corners = {
    "diamond": [[0, -0.9], [0.9, 0], [0, 0.9], [-0.9, 0]],
    "square": [[-0.64, -0.64], [0.64, -0.64], [0.64, 0.64], [-0.64, 0.64]],
    "triangle-up": [[0, -0.9], [0.87, 0.62], [-0.87, 0.62]],
    "triangle-down": [[0, 0.9], [0.87, -0.62], [-0.87, -0.62]],
    "star": Array.from({length: 10}, (_, k) => {
      const r = k % 2 ? 0.4 : 1, angle = Math.PI * k / 5;
      return [r * Math.sin(angle), -r * Math.cos(angle)];
    }),
  }[symbol];
  if (corners) corners.forEach(([x, y], k) => k ? path.lineTo(x, y) : path.moveTo(x, y));
  else if (symbol === "cross") { path.rect(-0.85, -0.3, 1.7, 0.6); path.rect(-0.3, -0.85, 0.6, 1.7); }
  else if (symbol === "x") {
    const turned = new Path2D(), matrix = new DOMMatrix().rotate(45);
    turned.addPath(outline("cross"), matrix);
    return turned;
  } else path.arc(0, 0, 0.74, 0, 2 * Math.PI);
  path.closePath();
  return path;
}

/** @typedef {{scale: number, x: number, y: number}} View Device pixels are scale times places, plus x and y. */

/** One WebGL context serves all maps, for browsers give a page only a few. */
class GLPoints {
  /** @param {number} n points */
  static make(n) {
    const canvas = document.createElement("canvas");
    const gl = canvas.getContext("webgl2", {antialias: false, premultipliedAlpha: true});
    if (!gl) return null;
    try { return new GLPoints(canvas, gl, n); } catch (error) { return null; }
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {WebGL2RenderingContext} gl
   * @param {number} n
   */
  constructor(canvas, gl, n) {
    this.canvas = canvas;
    this.gl = gl;
    this.n = n;
    /** @type {Map<Float32Array, WebGLBuffer>} */
    this.places = new Map();
    const program = gl.createProgram();
    const texts = {[gl.VERTEX_SHADER]: VERTEX, [gl.FRAGMENT_SHADER]: FRAGMENT};
    for (const kind of [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, texts[kind]);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) || "");
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.at = Object.fromEntries(["place", "color", "symbol", "state"].map(a => [a, gl.getAttribLocation(program, a)]));
    this.uniform = Object.fromEntries(["view", "size", "layer"].map(u => [u, gl.getUniformLocation(program, u)]));
    this.buffers = Object.fromEntries(["color", "symbol", "state"].map(a => [a, gl.createBuffer()]));
  }

  /**
   * @param {Uint8Array} color n times red, green, blue, alpha
   * @param {Uint8Array} symbol n positions in SYMBOLS
   * @param {Uint8Array} state n times HIDDEN, DIM, PLAIN or CHOSEN
   */
  paint(color, symbol, state) {
    const gl = this.gl;
    for (const [name, data] of Object.entries({color, symbol, state})) {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
      gl.enableVertexAttribArray(this.at[name]);
      gl.vertexAttribPointer(this.at[name], name === "color" ? 4 : 1, gl.UNSIGNED_BYTE, name === "color", 0, 0);
    }
  }

  /**
   * @param {HTMLCanvasElement} target
   * @param {Float32Array} places n times x and y
   * @param {View} view
   * @param {number} size device pixels of a point
   */
  draw(target, places, view, size) {
    const gl = this.gl, {width, height} = target;
    if (this.canvas.width < width || this.canvas.height < height) {
      this.canvas.width = Math.max(this.canvas.width, width);
      this.canvas.height = Math.max(this.canvas.height, height);
    }
    let buffer = this.places.get(places);
    if (!buffer) {
      buffer = gl.createBuffer();
      this.places.set(places, buffer);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ARRAY_BUFFER, places, gl.STATIC_DRAW);
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(this.at.place);
    gl.vertexAttribPointer(this.at.place, 2, gl.FLOAT, false, 0, 0);
    gl.viewport(0, this.canvas.height - height, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    // From pixels to clip space.
    gl.uniform4f(this.uniform.view, 2 * view.scale / width, -2 * view.scale / height,
      2 * view.x / width - 1, 1 - 2 * view.y / height);
    gl.uniform1f(this.uniform.size, size);
    for (const layer of [DIM, PLAIN, CHOSEN]) {
      gl.uniform1f(this.uniform.layer, layer);
      gl.drawArrays(gl.POINTS, 0, this.n);
    }
    const flat = target.getContext("2d");
    flat.clearRect(0, 0, width, height);
    flat.drawImage(this.canvas, 0, 0, width, height, 0, 0, width, height);
  }
}

/** The same without WebGL; arguments as there. */
class FlatPoints {
  /** @param {number} n points */
  constructor(n) {
    this.n = n;
    /** @type {Map<string, HTMLCanvasElement>} */
    this.stamps = new Map();
    this.outlines = SYMBOLS.map(outline);
    this.colors = this.symbols = this.states = new Uint8Array();
  }

  /**
   * @param {Uint8Array} colors
   * @param {Uint8Array} symbols
   * @param {Uint8Array} states
   */
  paint(colors, symbols, states) { Object.assign(this, {colors, symbols, states}); }

  /**
   * @param {number} i
   * @param {number} size
   */
  stamp(i, size) {
    const [r, g, b, a] = this.colors.subarray(4 * i, 4 * i + 4), symbol = this.symbols[i];
    const key = `${r},${g},${b},${a},${symbol},${size}`;
    let stamp = this.stamps.get(key);
    if (!stamp) {
      if (this.stamps.size > 4096) this.stamps.clear();
      stamp = document.createElement("canvas");
      stamp.width = stamp.height = Math.ceil(size) + 2;
      const flat = stamp.getContext("2d"), half = stamp.width / 2;
      flat.setTransform(size / 2, 0, 0, size / 2, half, half);
      flat.fillStyle = `rgba(${r},${g},${b},${a / 255})`;
      flat.fill(this.outlines[symbol]);
      this.stamps.set(key, stamp);
    }
    return stamp;
  }

  /**
   * @param {HTMLCanvasElement} target
   * @param {Float32Array} places
   * @param {View} view
   * @param {number} size
   */
  draw(target, places, view, size) {
    const flat = target.getContext("2d");
    flat.clearRect(0, 0, target.width, target.height);
    for (const layer of [DIM, PLAIN, CHOSEN]) {
      for (let i = 0; i < this.n; i++) {
        if (this.states[i] !== layer) continue;
        const x = places[2 * i] * view.scale + view.x, y = places[2 * i + 1] * view.scale + view.y;
        if (x < -size || y < -size || x > target.width + size || y > target.height + size) continue;
        const stamp = this.stamp(i, layer === CHOSEN ? size * 1.25 : size), half = stamp.width / 2;
        flat.drawImage(stamp, x - half, y - half);
      }
    }
  }
}
