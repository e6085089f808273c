// Worker: embeds recordings with the student in ONNX Runtime, or with MFCC, which needs no model.

import { serve } from "./serve.js";
import { mfccEmbedding } from "./mel.js";
import { Problem } from "./problem.js";

let runtime = null; // promise of ONNX Runtime
const sessions = new Map(); // model -> promise of its session

async function startRuntime() {
  if (typeof WebAssembly !== "object") throw new Problem("noWasm");
  const ort = await import("../vendor/ort.wasm.bundle.min.mjs");
  ort.env.wasm.numThreads = 1; // more need headers that not every server sends
  ort.env.wasm.wasmPaths = { wasm: new URL("../vendor/ort-wasm-simd-threaded.wasm", import.meta.url).href };
  return ort;
}

async function open(model) {
  runtime ??= startRuntime();
  const ort = await runtime;
  const response = await fetch(new URL(`../data/${model}.onnx`, import.meta.url));
  if (!response.ok) throw new Problem("noModel", { model });
  return ort.InferenceSession.create(new Uint8Array(await response.arrayBuffer()), {
    executionProviders: ["wasm"],
    extra: { session: { disable_quant_qdq: "1" } }, // int8 weights are unpacked once, at loading
  });
}

/** The session of a model, loaded at its first use; a failure is tried again next time. */
function session(model) {
  if (!sessions.has(model)) {
    sessions.set(model, open(model).catch((error) => {
      sessions.delete(model);
      if (error.key) throw error;
      runtime = null;
      throw new Problem("noModel", { model });
    }));
  }
  return sessions.get(model);
}

async function run(model, wave, output) {
  const opened = await session(model);
  const { Tensor } = await runtime;
  const began = performance.now();
  const results = await opened.run({ wave: new Tensor("float32", wave, [1, wave.length]) });
  const { data, dims } = results[output];
  return { data: Float32Array.from(data), dims: [...dims], ms: performance.now() - began };
}

serve({
  /** Load a model and run it once before it is needed: the first run is slow. */
  async warm({ model, samples }) {
    await run(model, new Float32Array(samples), "embedding");
    return true;
  },
  /** Unit embedding of samples at 16 kHz, and the time that it took [ms]. */
  async embed({ judge, samples, mfcc }) {
    let made;
    if (judge === "mfcc") {
      const began = performance.now();
      made = { data: mfccEmbedding(samples, mfcc), ms: performance.now() - began };
    } else {
      made = await run(judge, samples, "embedding");
    }
    return { embedding: made.data, ms: made.ms };
  },
  /** States of both paths [1, 2, L+1, T, D]. */
  states: ({ samples }) => run("paths", samples, "states"),
});
