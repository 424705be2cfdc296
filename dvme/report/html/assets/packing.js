// @ts-check
// Data of many points, unpacked after the first paint: base64, deflate, then bytes that lie in planes.
"use strict";

const NO_CODE = 65535; // of a missing number
const KINDS = {u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array};

/** @typedef {{type: string, deflated: string}} Packed as dvme.report.html.packing writes it */

/**
 * @param {string} text deflated, in base64
 * @returns {Promise<ArrayBuffer>}
 */
function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/**
 * @param {Packed} packed
 * @returns {Promise<any>} a typed array
 */
async function arrayOf({type, deflated}) {
  const planes = new Uint8Array(await inflated(deflated)), size = Number(type[1]), n = planes.length / size;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < size; plane++) {
    for (let i = 0, start = plane * n; i < n; i++) bytes[i * size + plane] = planes[start + i];
  }
  return new KINDS[type](bytes.buffer);
}

/**
 * @param {Packed} packed
 * @returns {Promise<string[]>}
 */
async function textsOf({deflated}) { return JSON.parse(new TextDecoder().decode(await inflated(deflated))); }

/**
 * @param {{low: number, step: number}} axis
 * @param {number} code
 */
const onGrid = ({low, step}, code) => code === NO_CODE ? NaN : low + step * code;

/** @param {{name: string, method: string, axes: any[]}} described */
async function unpackedMap({name, method, axes}) {
  const codes = await Promise.all(axes.map(axis => arrayOf(axis.codes)));
  const places = new Float32Array(2 * codes[0].length);
  codes.forEach((own, k) => { for (let i = 0; i < own.length; i++) places[2 * i + k] = onGrid(axes[k], own[i]); });
  return {name, method, places};
}

/** @param {any} described */
async function unpackedColumn(described) {
  const {name} = described;
  if (described.grid) {
    const numbers = Float32Array.from({length: NO_CODE + 1}, (_, code) => onGrid(described.grid, code));
    return {name, table: numbers, texts: null, codes: await arrayOf(described.grid.codes)};
  }
  const codes = await arrayOf(described.codes);
  if (!described.numbers) return {name, codes, values: await textsOf(described.values)};
  return {name, codes, table: await arrayOf(described.numbers), texts: await textsOf(described.texts)};
}

/**
 * The same as a page of few points has in its data, with typed arrays in place of texts.
 * @param {any} data as dvme.report.html.many_points makes it
 */
async function unpacked({n, ids, maps, columns, thumbnails, tokens}) {
  return {
    maps: await Promise.all(maps.map(unpackedMap)),
    columns: await Promise.all(columns.map(unpackedColumn)),
    ids: ids ? await textsOf(ids) : Array.from({length: n}, (_, i) => String(i)),
    thumbnails, tokens,
  };
}
