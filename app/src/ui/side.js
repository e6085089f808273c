// A recording in use: the clip, its effects, what the ear makes of them, its embeddings.

import { ear, judge } from "../engine/client.js";
import { distance } from "../engine/score.js";
import { Problem } from "../engine/problem.js";
import { decode } from "./sound.js";

export const PLAIN = { speed: 1, echo: 0, noise: null };

/** A recording of the package: {index, samples, rate, notes}. */
export async function boxClip(app, index) {
  const bytes = await (await app.fetched(app.data.clips[index].file)).arrayBuffer();
  return { index, ...(await ear.ask("wav", { bytes, limits: app.data.limits }, [bytes])) };
}

/** A recording from a file that somebody chose. */
export async function fileClip(app, file) {
  const { limits } = app.data;
  if (file.size > limits.MOST_BYTES) throw new Problem("large", { size: file.size / 2 ** 20, most: limits.MOST_BYTES / 2 ** 20 });
  const bytes = await file.arrayBuffer();
  const wav = await ear.ask("wav", { bytes, limits });
  return ownClip(app, file.name, wav ?? (await prepared(app, await decode(bytes, limits))));
}

/** A recording of the microphone. */
export const spokenClip = async (app, name, spoken) => ownClip(app, name, await prepared(app, spoken));

const prepared = (app, decoded) => ear.ask("prepare", { ...decoded, limits: app.data.limits });

/** Keep it in the page's memory under a name of its own. */
function ownClip(app, name, clip) {
  let label = name;
  for (let n = 2; app.own.some((other) => other.label === label); n++) label = `${name} (${n})`;
  const kept = { label, ...clip };
  app.own.push(kept);
  return kept;
}

export class Side {
  constructor(app) {
    this.app = app;
    this.clip = null;
    this.effects = { ...PLAIN };
    this.heard = null; // samples, doubts, outline and mel of the clip with its effects
  }

  /** Hear the clip with its effects; the embeddings of before are void. */
  async hear() {
    const { clip, effects } = this;
    if (!clip) return;
    const heard = await ear.ask("hear", { samples: clip.samples, rate: clip.rate, effects, limits: this.app.data.limits });
    if (clip === this.clip) this.heard = { ...heard, embeddings: {} };
  }

  /** {embedding, ms} of one judge. */
  embed(name) {
    const { heard } = this;
    heard.embeddings[name] ??= judge.ask("embed", { judge: name, samples: heard.samples, mfcc: this.app.data.judges.mfcc });
    heard.embeddings[name].catch(() => delete heard.embeddings[name]);
    return heard.embeddings[name];
  }

  /** Why a probability would not hold: doubts about the recording, and its distance to the calibrated speech. */
  async reasons(name) {
    const { domain } = this.app;
    const found = [...this.heard.doubts];
    if (name !== "mfcc") {
      const far = distance((await this.embed(name)).embedding, domain);
      if (far > domain.limit) found.push({ key: "doubtFar", values: { far, limit: domain.limit } });
    }
    return found;
  }
}
