// The page's half of the two workers: ask a question, get a promise.

import { Problem } from "./problem.js";

export class Client {
  constructor(url) {
    this.pending = new Map();
    this.next = 0;
    this.worker = new Worker(url, { type: "module" });
    this.worker.onmessage = ({ data: { id, answer, problem } }) => {
      const { resolve, reject } = this.pending.get(id);
      this.pending.delete(id);
      problem ? reject(new Problem(problem.key, problem.values)) : resolve(answer);
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.pending.values()) reject(new Problem("unexpected", { reason: event.message ?? "worker" }));
      this.pending.clear();
    };
  }

  /** The worker's answer to `what`; `transfer` lists buffers that move instead of being copied. */
  ask(what, given, transfer = []) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, what, given }, transfer);
    });
  }
}

export const ear = new Client(new URL("./ear.js", import.meta.url));
export const judge = new Client(new URL("./judge.js", import.meta.url));

/** Run an asynchronous job for the newest call only: while one runs, only the last waiting call is kept. */
export function latest(job) {
  let running = false, waiting = null;
  return async function call(...args) {
    if (running) {
      waiting = args;
      return;
    }
    running = true;
    try {
      await job(...args);
    } finally {
      running = false;
      if (waiting) {
        const next = waiting;
        waiting = null;
        call(...next);
      }
    }
  };
}
