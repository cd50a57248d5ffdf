// MATLAB's bicubic interpolation, and what the network's change of luminance does to a pixel:
// what vdsr/imresize.py and vdsr/upscale.py do, for factors of 1 and more.

/** Keys' cubic convolution kernel with a = -0.5. */
function cubic(x) {
  x = Math.abs(x);
  if (x <= 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/**
 * The weights that give some pixels of an enlarged axis.
 *
 * @param {number} length - of the axis, in pixels, before it is enlarged
 * @param {number} scale - factor, at least 1
 * @param {number} from - first pixel of the enlarged axis
 * @param {number} to - the one after the last
 * @returns {{start: number, end: number, index: Int32Array, weight: Float64Array}} which source
 *   pixels are needed, and for each enlarged pixel four places among them with their weights
 */
export function axisWeights(length, scale, from, to) {
  const index = new Int32Array(4 * (to - from));
  const weight = new Float64Array(index.length);
  for (let i = from; i < to; i++) {
    const centre = (i + 0.5) / scale - 0.5; // in source pixels
    const first = Math.floor(centre) - 1;
    const taps = [0, 1, 2, 3].map((k) => cubic(centre - first - k));
    const sum = taps[0] + taps[1] + taps[2] + taps[3];
    for (let k = 0; k < 4; k++) {
      // Mirrored at the border: 0 1 ... n-1 n-1 ... 1 0, repeated.
      const place = (first + k + 2 * length) % (2 * length);
      index[4 * (i - from) + k] = place < length ? place : 2 * length - 1 - place;
      weight[4 * (i - from) + k] = taps[k] / sum;
    }
  }
  const start = index.reduce((a, b) => Math.min(a, b));
  const end = index.reduce((a, b) => Math.max(a, b)) + 1;
  return { start, end, index: index.map((place) => place - start), weight };
}

/** Enlarge one plane, row after row, of `width` columns. */
function resize(plane, width, rows, columns) {
  const height = rows.index.length / 4;
  const tall = new Float64Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let k = 4 * y; k < 4 * y + 4; k++) {
      const weight = rows.weight[k];
      const source = rows.index[k] * width;
      for (let x = 0; x < width; x++) tall[y * width + x] += weight * plane[source + x];
    }
  }
  const wide = columns.index.length / 4;
  const out = new Float64Array(height * wide);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < wide; x++) {
      let sum = 0;
      for (let k = 4 * x; k < 4 * x + 4; k++) {
        sum += columns.weight[k] * tall[y * width + columns.index[k]];
      }
      out[y * wide + x] = sum;
    }
  }
  return out;
}

/**
 * Enlarge part of a picture by interpolation.
 *
 * @param {Uint8ClampedArray} pixels - RGBA of the source pixels that `rows` and `columns` need
 * @param {{grey: boolean, alpha: boolean}} kind - of the picture
 * @param rows - from axisWeights
 * @param columns - from axisWeights
 * @returns {{colour: Float64Array[], alpha: ?Float64Array}} planes, 0 to 1 but for overshoot
 */
export function interpolate(pixels, kind, rows, columns) {
  const width = columns.end - columns.start;
  const count = width * (rows.end - rows.start);
  const plane = (value) => {
    const source = new Float64Array(count);
    for (let i = 0; i < count; i++) source[i] = value(4 * i);
    return resize(source, width, rows, columns);
  };
  const channels = kind.grey ? [0] : [0, 1, 2];
  if (!kind.alpha) {
    return { colour: channels.map((c) => plane((i) => pixels[i + c] / 255)), alpha: null };
  }
  // Colour counts as much as it is opaque, so that hidden colours never show.
  const alpha = plane((i) => pixels[i + 3] / 255);
  const colour = channels.map((c) => plane((i) => (pixels[i + c] * pixels[i + 3]) / 65025));
  for (const values of colour) {
    for (let i = 0; i < values.length; i++) values[i] = alpha[i] > 0 ? values[i] / alpha[i] : 0;
  }
  return { colour, alpha };
}

/** The network's input: grey itself, or the Y of MATLAB's YCbCr over 255; both in [0, 1]. */
export function luminance({ colour }) {
  if (colour.length === 1) return Float32Array.from(colour[0]);
  const [r, g, b] = colour;
  return Float32Array.from(r, (_, i) => (16 + 65.481 * r[i] + 128.553 * g[i] + 24.966 * b[i]) / 255);
}

/**
 * Turn planes into RGBA of 8 bits.
 *
 * @param planes - from interpolate
 * @param {number} width - of the planes
 * @param {{x: number, y: number, width: number, height: number}} part - of them that is wanted
 * @param {?Float32Array} change - of the luminance, by the network
 */
export function toPixels({ colour, alpha }, width, part, change = null) {
  const grey = colour.length === 1;
  const gain = grey ? 1 : 255 / 219; // Y of white less Y of black is 219 of 255
  const out = new Uint8ClampedArray(4 * part.width * part.height); // rounds as numpy does
  for (let y = 0; y < part.height; y++) {
    for (let x = 0; x < part.width; x++) {
      const from = (part.y + y) * width + part.x + x;
      const to = 4 * (y * part.width + x);
      const more = change ? gain * change[from] : 0;
      for (let c = 0; c < 3; c++) out[to + c] = 255 * (colour[grey ? 0 : c][from] + more);
      out[to + 3] = alpha ? 255 * alpha[from] : 255;
    }
  }
  return out;
}
