// Enlarges tiles by the network, one after the other.

import { interpolate, luminance, toPixels } from "./enlarge.js";

let ort, session;

async function open({ provider, wasm, network }) {
  ort = await import(`./ort.${provider}.bundle.min.mjs`);
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // there are as many workers instead, which needs no special headers
  ort.env.logLevel = "error";
  session = await ort.InferenceSession.create(network, { executionProviders: [provider] });
  return {};
}

async function enlarge({ pixels, kind, rows, columns, part }) {
  const planes = interpolate(pixels, kind, rows, columns);
  const ilr = luminance(planes);
  const [height, width] = [rows.index.length / 4, columns.index.length / 4];
  const input = new ort.Tensor("float32", ilr, [1, 1, height, width]);
  const { sr } = await session.run({ ilr: input });
  const change = (await sr.getData()).map((value, i) => value - ilr[i]);
  sr.dispose();
  return {
    bicubic: toPixels(planes, width, part),
    vdsr: toPixels(planes, width, part, change),
  };
}

self.onmessage = async ({ data }) => {
  try {
    const answer = data.network ? await open(data) : await enlarge(data);
    self.postMessage(answer, answer.vdsr ? [answer.bicubic.buffer, answer.vdsr.buffer] : []);
  } catch (error) {
    self.postMessage({ error: error?.message ?? String(error) });
  }
};
