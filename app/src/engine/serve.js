// The worker's half of a question and its answer.

/** Answer messages {id, what, given} with handlers[what](given); a problem travels as its key. */
export function serve(handlers) {
  self.onmessage = async ({ data: { id, what, given } }) => {
    try {
      self.postMessage({ id, answer: await handlers[what](given) });
    } catch (error) {
      self.postMessage({ id, problem: { key: error.key ?? "unexpected", values: error.values ?? { reason: String(error.message ?? error) } } });
    }
  };
}
