// MATLAB's bicubic interpolation, and what the network's change of luminance does to a pixel:
// what vdsr/imresize.py and vdsr/upscale.py do.

const SEEN = 1 / 510; // an opacity below half a level is none
const REACH = 24; // what the network sees, and what interpolation adds

/** Keys' cubic convolution kernel with a = -0.5. */
function cubic(x) {
  x = Math.abs(x);
  if (x <= 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/**
 * The weights that give some pixels of a resized axis.
 *
 * @param {number} length - of the axis, in pixels, before it is resized
 * @param {number} scale - factor
 * @param {number} from - first pixel of the resized axis
 * @param {number} to - the one after the last
 * @returns {{start: number, end: number, taps: number, index: Int32Array, weight: Float64Array}}
 *   which source pixels are needed, and for each new pixel some places among them with their weights
 */
export function axisWeights(length, scale, from, to) {
  const shrink = Math.min(scale, 1); // below 1 the kernel is stretched over more pixels
  const taps = scale < 1 ? Math.ceil(4 / shrink) + 1 : 4;
  const index = new Int32Array(taps * (to - from));
  const weight = new Float64Array(index.length);
  for (let i = from; i < to; i++) {
    const centre = (i + 0.5) / scale - 0.5; // in source pixels
    const first = Math.floor(centre - 2 / shrink) + 1;
    const values = Array.from({ length: taps }, (_, k) => cubic(shrink * (centre - first - k)));
    const sum = values.reduce((a, b) => a + b);
    for (let k = 0; k < taps; k++) {
      // Mirrored at the border: 0 1 ... n-1 n-1 ... 1 0, repeated.
      const place = (((first + k) % (2 * length)) + 2 * length) % (2 * length);
      index[taps * (i - from) + k] = place < length ? place : 2 * length - 1 - place;
      weight[taps * (i - from) + k] = values[k] / sum;
    }
  }
  const start = index.reduce((a, b) => Math.min(a, b));
  const end = index.reduce((a, b) => Math.max(a, b)) + 1;
  return { start, end, taps, index: index.map((place) => place - start), weight };
}

/** Let weights count their source pixels from another one, and up to another one. */
export function within(weights, start, end) {
  const index = weights.index.map((place) => place + weights.start - start);
  return { ...weights, start, end, index };
}

/** Return how many pixels some weights give. */
export const count = ({ index, taps }) => index.length / taps;

/** Resize one plane, row after row, of `width` columns, of which `columns` needs the first ones. */
export function resize(plane, width, rows, columns) {
  const height = count(rows);
  const tall = new Float64Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let k = rows.taps * y; k < rows.taps * (y + 1); k++) {
      const weight = rows.weight[k];
      const source = rows.index[k] * width;
      for (let x = 0; x < width; x++) tall[y * width + x] += weight * plane[source + x];
    }
  }
  const wide = count(columns);
  const out = new Float64Array(height * wide);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < wide; x++) {
      let sum = 0;
      for (let k = columns.taps * x; k < columns.taps * (x + 1); k++) {
        sum += columns.weight[k] * tall[y * width + columns.index[k]];
      }
      out[y * wide + x] = sum;
    }
  }
  return out;
}

/**
 * Give hidden pixels the colour of the nearest one that is seen, for the network to be shown.
 *
 * @param {Uint8ClampedArray} pixels - RGBA, changed in place
 * @param {number} width
 * @param {number} height
 */
export function fillHidden(pixels, width, height) {
  const seen = (i) => pixels[4 * i + 3] > 0;
  // The nearest seen row of each pixel's column, the upper one of two; NONE if there is none.
  const NONE = -1e9;
  const nearest = new Int32Array(width * height);
  for (let x = 0; x < width; x++) {
    for (let y = 0, last = NONE; y < height; y++) {
      if (seen(y * width + x)) last = y;
      nearest[y * width + x] = last;
    }
    for (let y = height - 1, last = NONE; y >= 0; y--) {
      const i = y * width + x;
      if (seen(i)) last = y;
      if (last !== NONE && last - y < y - nearest[i]) nearest[i] = last;
    }
  }
  for (let i = 0; i < nearest.length; i++) {
    if (seen(i)) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    let [best, from] = [Infinity, -1];
    // What is farther from a seen pixel than the network looks decides nothing that is seen.
    for (let d = 0; d <= REACH && d * d <= best; d++) {
      for (const column of [x - d, x + d]) {
        if (column < 0 || column >= width) continue;
        const row = nearest[y * width + column];
        const distance = row === NONE ? Infinity : d * d + (row - y) ** 2;
        const place = row * width + column;
        if (distance < best || (distance === best && column < from % width)) {
          [best, from] = [distance, place];
        }
      }
    }
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = from < 0 ? 0 : pixels[4 * from + c];
  }
}

/**
 * Whether the file of a picture without colours holds grey alone, or three channels that are alike:
 * grey goes to the network as it is, and of three channels their luminance from 16 to 235.
 *
 * @param {Uint8Array} bytes - of the file
 */
export function hasOneChannel(bytes) {
  if (bytes[0] === 0x89) return (bytes[25] & 2) === 0; // PNG, whose type has a bit for colour
  if (bytes[0] === 0x42) return bytes[28] <= 8; // BMP, by its bits a pixel
  if (bytes[0] !== 0xff) return false; // GIF and WebP have colours; a grey AVIF, rare, is not known
  for (let i = 2; i < bytes.length; i += 2 + 256 * bytes[i + 2] + bytes[i + 3]) {
    while (bytes[i + 1] === 0xff) i++; // between a JPEG's parts there may be any number of these
    const part = bytes[i + 1];
    const frame = part >= 0xc0 && part <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(part);
    if (frame) return bytes[i + 9] === 1;
  }
  return false;
}

/**
 * Enlarge part of a picture by interpolation.
 *
 * @param {Uint8ClampedArray} pixels - RGBA of the source pixels that `rows` and `columns` need;
 *   hidden ones filled
 * @param {{grey: boolean, alpha: boolean}} kind - of the picture
 * @param rows - from axisWeights
 * @param columns - from axisWeights
 * @returns {{colour: Float64Array[], alpha: ?Float64Array, shown: Float64Array[]}} planes, 0 to 1
 *   but for overshoot; `shown` is what the network is to see
 */
export function interpolate(pixels, kind, rows, columns) {
  const width = columns.end - columns.start;
  const source = new Float64Array(width * (rows.end - rows.start));
  const plane = (value) => resize(source.map((_, i) => value(4 * i)), width, rows, columns);
  const channels = kind.grey ? [0] : [0, 1, 2];
  const shown = channels.map((c) => plane((i) => pixels[i + c] / 255));
  if (!kind.alpha) return { colour: shown, alpha: null, shown };
  const alpha = plane((i) => pixels[i + 3] / 255);
  const colour = channels.map((c, k) => {
    // A colour counts as much as it is opaque.
    const weighted = plane((i) => (pixels[i + c] * pixels[i + 3]) / 65025);
    return weighted.map((value, i) => (alpha[i] > SEEN ? value / alpha[i] : shown[k][i]));
  });
  return { colour, alpha, shown };
}

/** The network's input: grey itself, or the Y of MATLAB's YCbCr over 255; both in [0, 1]. */
export function luminance({ shown }) {
  if (shown.length === 1) return Float32Array.from(shown[0]);
  const [r, g, b] = shown;
  return Float32Array.from(r, (_, i) => (16 + 65.481 * r[i] + 128.553 * g[i] + 24.966 * b[i]) / 255);
}

/**
 * Turn planes into RGBA of 8 bits.
 *
 * @param planes - from interpolate
 * @param {?Float64Array} change - of the luminance, by the network
 */
export function toPixels({ colour, alpha }, change = null) {
  const grey = colour.length === 1;
  const gain = grey ? 1 : 255 / 219; // Y of white less Y of black is 219 of 255
  const out = new Uint8ClampedArray(4 * colour[0].length); // rounds as numpy does
  for (let i = 0; i < colour[0].length; i++) {
    const more = change ? gain * change[i] : 0;
    for (let c = 0; c < 3; c++) out[4 * i + c] = 255 * (colour[grey ? 0 : c][i] + more);
    out[4 * i + 3] = alpha ? 255 * alpha[i] : 255;
  }
  return out;
}
