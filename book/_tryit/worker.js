// Enlarges tiles by the network, one after the other.

import { count, interpolate, luminance, resize, toPixels } from "./enlarge.js";

let ort, session;

async function open({ provider, wasm, network }) {
  ort = await import(`./ort.${provider}.bundle.min.mjs`);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // there are as many workers instead, which needs no special headers
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(network, { executionProviders: [provider] });
  return {};
}

async function enlarge({ pixels, kind, rows, columns, same }) {
  const planes = interpolate(pixels, kind, rows.tile, columns.tile);
  if (same) return { bicubic: toPixels(planes), vdsr: toPixels(planes) }; // not enlarged at all
  const ilr = luminance(interpolate(pixels, kind, rows.seen, columns.seen));
  const [height, width] = [count(rows.seen), count(columns.seen)];
  const input = new ort.Tensor("float32", ilr, [1, 1, height, width]);
  const { sr } = await session.run({ ilr: input });
  const change = (await sr.getData()).map((value, i) => value - ilr[i]);
  sr.dispose();
  // Without what only surrounds the tile, reduced to the factor that was asked for.
  const kept = change.subarray(rows.cut * width + columns.cut);
  const reduced = resize(kept, width, rows.back, columns.back);
  return { bicubic: toPixels(planes), vdsr: toPixels(planes, reduced) };
}

self.onmessage = async ({ data }) => {
  try {
    const answer = data.network ? await open(data) : await enlarge(data);
    self.postMessage(answer, answer.vdsr ? [answer.bicubic.buffer, answer.vdsr.buffer] : []);
  } catch (error) {
    self.postMessage({ error: error?.message ?? String(error) });
  }
};
