// The page Try it: takes a picture, has workers enlarge it tile by tile, shows and saves the result.

import { axisWeights, fillHidden, hasOneChannel, within } from "./enlarge.js";

const TILE = 256; // largest side of a tile of the result, in pixels
const HALO = 20; // how far the network sees beyond a pixel
const MOST_PIXELS = 64e6; // of a result
const MOST_WORKERS = 8;

const find = (selector) => document.querySelector(`#tryit ${selector}`);
const form = find("form");
const factor = find("input[type=number]");
const progress = find(".tryit-progress");
const [bar, doing, stopper] = progress.children;
const status = find(".tryit-status");
const compare = find(".compare");
const view = find(".tryit-view");
let [vdsr, bicubic, slider] = view.children;
const [zoomer, saver] = find(".tryit-after").children;
const zoom = zoomer.firstElementChild;

/** What a reader is told when something cannot be done. Any other error is a fault of this page. */
class Refusal extends Error {}

let picture = null; // what is to be enlarged: name, width, height, bitmap, pixels, kind
let shown = 0; // factor that it was last enlarged by
let run = null; // AbortController of the work in progress
let engine = null; // promise of workers that have loaded the network
const files = {}; // name to promise of the bytes

const size = ({ width, height }) => `${width}×${height} pixels`;

function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} minutes`;
  return `${Math.round(seconds / 3600)} hours`;
}

// ---- Reading a picture ------------------------------------------------------------------------

/** Return a canvas's context that keeps pixels as they are, or null if there is no room for it. */
function surface(canvas, { width, height }, alpha) {
  canvas.width = width;
  canvas.height = height;
  // A canvas keeps colour multiplied by alpha. At 8 bits that loses some, at 16 it does not.
  const colorType = alpha ? "float16" : "unorm8";
  const context = canvas.getContext("2d", { alpha, colorType, willReadFrequently: true });
  try {
    context.fillStyle = "#fff"; // beyond its limits a canvas stays empty, without an error
    context.fillRect(width - 1, height - 1, 1, 1);
    if (context.getImageData(width - 1, height - 1, 1, 1).data[0] !== 255) return null;
  } catch {
    return null;
  }
  context.clearRect(0, 0, width, height);
  return context;
}

/**
 * Put a new canvas in the place of one. The old one would stay with or without alpha as it began,
 * and empty for good if it was once too large.
 */
function renewed(canvas) {
  const fresh = canvas.cloneNode();
  canvas.replaceWith(fresh);
  canvas.width = canvas.height = 0; // frees its memory at once
  return fresh;
}

async function read(blob, name) {
  const bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none" }).catch(() => null);
  if (!bitmap) {
    throw new Refusal(
      `${name} is not a picture that this browser can read. JPEG, PNG and WebP work everywhere.`,
    );
  }
  const { width, height } = bitmap;
  const fits = width * height <= MOST_PIXELS;
  const context = fits && surface(new OffscreenCanvas(1, 1), bitmap, true);
  if (!context) throw new Refusal(`${name} has ${size(bitmap)}, too many for this page.`);
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, width, height).data;
  const every = (condition) => {
    for (let i = 0; i < pixels.length; i += 4) if (!condition(i)) return false;
    return true;
  };
  const alpha = !every((i) => pixels[i + 3] === 255);
  if (alpha) fillHidden(pixels, width, height);
  const grey =
    every((i) => pixels[i] === pixels[i + 1] && pixels[i] === pixels[i + 2]) &&
    hasOneChannel(new Uint8Array(await blob.arrayBuffer()));
  return { name, width, height, bitmap, pixels, kind: { grey, alpha } };
}

// ---- Workers with the network -----------------------------------------------------------------

async function load(name, told) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} is missing from this copy of the book`);
  const parts = [];
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) return new Blob(parts).arrayBuffer();
    parts.push(value);
    told(value.length);
  }
}

/** Send a worker a message, and return its answer. */
function ask(worker, message, transfer = []) {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = (event) => reject(new Error(event.message || "a worker did not start"));
    worker.postMessage(message, transfer);
  });
}

async function start(provider, count) {
  let bytes = 0;
  const told = (more) => {
    bytes += more;
    report(`Loading the network and its runtime: ${(bytes / 1e6).toFixed(1)} MB`);
  };
  const variant = provider === "webgpu" ? ".asyncify" : "";
  const names = [`ort-wasm-simd-threaded${variant}.wasm`, "network.onnx"];
  // What has been loaded is kept, for a reader who stops and starts again.
  const kept = (name) =>
    (files[name] ??= load(name, told).catch((error) => {
      delete files[name];
      throw error;
    }));
  const [wasm, network] = await Promise.all(names.map(kept));
  report("Starting the network");
  const url = new URL("worker.js", import.meta.url);
  const workers = Array.from({ length: count }, () => new Worker(url, { type: "module" }));
  try {
    await Promise.all(workers.map((worker) => ask(worker, { provider, wasm, network })));
  } catch (error) {
    end(workers);
    throw error;
  }
  return workers;
}

const end = (workers) => workers.forEach((worker) => worker.terminate());

/** Start one worker on the GPU where there is one, else a worker for each processor core. */
async function startBest() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (adapter && !adapter.info?.isFallbackAdapter) {
    try {
      return { workers: await start("webgpu", 1), name: "WebGPU" };
    } catch (error) {
      console.warn("The network does not run by WebGPU:", error);
    }
  }
  const count = Math.min(navigator.hardwareConcurrency || 1, MOST_WORKERS);
  try {
    const name = `WebAssembly on ${count} ${count === 1 ? "thread" : "threads"}`;
    return { workers: await start("wasm", count), name };
  } catch (error) {
    throw new Error(`this browser cannot run the network (${error.message})`);
  }
}

/** End the workers: the only way to stop one in the middle of a tile. */
function discard() {
  engine?.then(({ workers }) => end(workers), () => {});
  engine = null;
}

// ---- Enlarging --------------------------------------------------------------------------------

/** Cut a length into equal parts of at most TILE. */
function cut(length) {
  const count = Math.ceil(length / TILE);
  const edge = (i) => Math.round((i * length) / count);
  return Array.from({ length: count }, (_, i) => [edge(i), edge(i + 1)]);
}

/** The tiles of a result, from the middle of the picture outwards. */
function tiling({ width, height }) {
  const distance = ({ x, y }) => Math.hypot(x[0] + x[1] - width, y[0] + y[1] - height);
  const tiles = cut(height).flatMap((y) => cut(width).map((x) => ({ x, y })));
  return tiles.sort((a, b) => distance(a) - distance(b));
}

/**
 * The weights that a tile takes along an axis: `tile` interpolates it, `seen` what the network sees
 * of it, at the next of ×2, ×3 and ×4, and `back` reduces what the network adds, `cut` from there.
 */
function along(length, scale, [from, to]) {
  const at = Math.max(2, Math.ceil(scale - 1e-6)); // of a factor that is computed
  const tile = axisWeights(length, scale, from, to);
  const back = axisWeights(at * length, scale / at, from, to);
  const first = Math.max(back.start - HALO, 0);
  const seen = axisWeights(length, at, first, Math.min(back.end + HALO, at * length));
  const [start, end] = [Math.min(tile.start, seen.start), Math.max(tile.end, seen.end)];
  return {
    tile: within(tile, start, end),
    seen: within(seen, start, end),
    back,
    cut: back.start - first,
  };
}

/** What a worker needs for a tile: the source's pixels below it and below what surrounds it. */
function task({ width, height, pixels, kind }, scale, { x, y }) {
  const [columns, rows] = [along(width, scale, x), along(height, scale, y)];
  const { start, end } = columns.tile;
  const row = 4 * (end - start);
  const source = new Uint8ClampedArray(row * (rows.tile.end - rows.tile.start));
  for (let i = rows.tile.start; i < rows.tile.end; i++) {
    const from = 4 * (i * width + start);
    source.set(pixels.subarray(from, from + row), row * (i - rows.tile.start));
  }
  const [wide, high] = [x[1] - x[0], y[1] - y[0]];
  return { pixels: source, kind, rows, columns, same: scale === 1, width: wide, height: high };
}

function check({ name, width, height }, scale, result) {
  const pixels = result.width * result.height;
  if (pixels <= MOST_PIXELS) return;
  const most = Math.floor(10 * Math.sqrt(MOST_PIXELS / (width * height))) / 10;
  throw new Refusal(
    `Enlarged ×${scale}, ${name} would have ${Math.round(pixels / 1e6)} megapixels, and this page ` +
      `goes up to ${MOST_PIXELS / 1e6}. Choose a factor of at most ${most}, or cut out the part ` +
      "that matters first.",
  );
}

/** Enlarge a picture onto the two canvases, and return a sentence about it. */
async function enlarge(picture, scale, signal) {
  const [width, height] = [picture.width, picture.height].map((n) => Math.ceil(n * scale));
  const result = { width, height };
  check(picture, scale, result);
  [vdsr, bicubic] = [vdsr, bicubic].map(renewed);
  const contexts = [vdsr, bicubic].map((canvas) => surface(canvas, result, picture.kind.alpha));
  if (contexts.includes(null)) {
    compare.hidden = zoomer.hidden = true;
    throw new Refusal(`This browser cannot hold a picture of ${size(result)}. Choose a smaller factor.`);
  }
  // Until its tile is done, each part is shown as the browser itself enlarges it.
  for (const context of contexts) context.drawImage(picture.bitmap, 0, 0, width, height);
  shown = scale;
  layOut();

  engine ??= startBest();
  const { workers, name } = await engine;
  signal.throwIfAborted();
  const began = performance.now();
  const tiles = tiling(result);
  const count = tiles.length;
  let done = 0;
  report(`${count} tiles to do`, 0);
  const work = async (worker) => {
    for (let tile = tiles.shift(); tile; tile = tiles.shift()) {
      const message = task(picture, scale, tile);
      const answer = await ask(worker, message, [message.pixels.buffer]);
      signal.throwIfAborted();
      for (const [i, pixels] of [answer.vdsr, answer.bicubic].entries()) {
        const data = new ImageData(pixels, message.width, message.height);
        contexts[i].putImageData(data, tile.x[0], tile.y[0]);
      }
      done += 1;
      const left = ((performance.now() - began) / done) * (count - done);
      report(`${done} of ${count} tiles done, about ${duration(left)} left`, done / count);
    }
  };
  await Promise.all(workers.map(work));
  const time = duration(performance.measure("enlarge", { start: began }).duration);
  return `${picture.name}: from ${size(picture)} to ${size(result)} in ${time}, by ${name}.`;
}

// ---- What the reader sees ---------------------------------------------------------------------

function report(text, share = null) {
  doing.textContent = text;
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
}

function say(text, refused = false) {
  status.textContent = text;
  status.classList.toggle("tryit-refused", refused);
}

/** Show the result as large as the column, or pixel for pixel and scrolling. */
function layOut() {
  const { width, height } = vdsr;
  const [widest, highest] = [form.clientWidth, 0.8 * window.innerHeight];
  const fit = Math.min(1, widest / width, highest / height);
  zoomer.hidden = fit === 1;
  compare.hidden = false;
  compare.classList.toggle("tryit-zoomed", zoom.checked && fit < 1);
  const ratio = zoom.checked ? 1 : fit;
  for (const canvas of [vdsr, bicubic]) {
    canvas.style.width = `${ratio * width}px`;
    canvas.style.height = `${ratio * height}px`;
  }
  slide();
}

/** Move the border between the pictures to where the slider stands. */
function slide() {
  slider.style.width = slider.style.height = 0; // or it would keep the view as large as it was
  const [width, height] = [view.clientWidth, view.clientHeight];
  slider.style.width = `${width}px`;
  slider.style.height = `${height}px`;
  const split = (slider.value / 100) * width;
  compare.style.setProperty("--split", `${split}px`);
  compare.style.setProperty("--cut", `${view.scrollLeft + split}px`);
}

async function save() {
  let canvas = vdsr;
  if (picture.kind.alpha) {
    // From its own 16 bits the canvas would write a PNG of 16, three times as large.
    const data = vdsr.getContext("2d").getImageData(0, 0, vdsr.width, vdsr.height);
    canvas = document.createElement("canvas");
    canvas
      .getContext("bitmaprenderer")
      .transferFromImageBitmap(await createImageBitmap(data, { premultiplyAlpha: "none" }));
  }
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!blob) return say("This browser could not write so large a picture.", true);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${picture.name.replace(/\.\w+$/, "")}-x${shown}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// ---- What the reader does ---------------------------------------------------------------------

function cancel() {
  if (!run) return;
  run.abort();
  run = null;
  progress.hidden = true;
  discard();
}

/** Begin some work in place of what is in progress; `work` returns a sentence for its end. */
async function begin(work) {
  cancel();
  const mine = new AbortController();
  run = mine;
  progress.hidden = false;
  saver.hidden = true;
  report("Reading the picture");
  say("");
  try {
    const sentence = await work(mine.signal);
    if (run !== mine) return;
    say(sentence);
    saver.hidden = false;
  } catch (error) {
    if (run !== mine) return;
    if (error instanceof Refusal) {
      say(error.message, true);
    } else {
      console.warn(error);
      say(`That did not work: ${error.message}.`, true);
      discard();
    }
  }
  run = null;
  progress.hidden = true;
}

function again() {
  if (!form.reportValidity() || !picture) return;
  begin((signal) => enlarge(picture, factor.valueAsNumber, signal));
}

function show(name, load) {
  if (!form.reportValidity()) return;
  begin(async (signal) => {
    picture?.bitmap.close();
    picture = null;
    compare.hidden = zoomer.hidden = true;
    const newest = await read(await load(), name);
    signal.throwIfAborted();
    picture = newest;
    return enlarge(picture, factor.valueAsNumber, signal);
  });
}

find("input[type=file]").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  if (file) show(file.name, () => file);
  target.value = ""; // or the same file could not be chosen twice
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file) show(file.name, () => file);
});
for (const button of form.querySelectorAll("[data-sample]")) {
  const name = button.dataset.sample;
  const url = new URL(name, import.meta.url);
  button.addEventListener("click", () => show(name, async () => (await fetch(url)).blob()));
}
for (const button of form.querySelectorAll("[data-scale]")) {
  button.addEventListener("click", () => {
    factor.value = button.dataset.scale;
    again();
  });
}
factor.addEventListener("change", again);
form.addEventListener("submit", (event) => event.preventDefault());
stopper.addEventListener("click", () => {
  cancel();
  say(
    compare.hidden
      ? "Stopped."
      : "Stopped. What VDSR had not reached is shown as the browser enlarges it.",
  );
});
saver.addEventListener("click", save);
zoom.addEventListener("change", () => {
  layOut();
  view.scrollTo((view.scrollWidth - view.clientWidth) / 2, (view.scrollHeight - view.clientHeight) / 2);
});
slider.addEventListener("input", slide);
view.addEventListener("scroll", slide);
window.addEventListener("resize", () => compare.hidden || layOut());
form.hidden = false;
