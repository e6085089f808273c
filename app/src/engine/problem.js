// A problem that the page tells in one line: a key of the texts, and the values in its sentence.

export class Problem extends Error {
  constructor(key, values = {}) {
    super(key);
    this.key = key;
    this.values = values;
  }
}
