// Sound in and out of the page: play samples, decode what the browser can, record the microphone.

import { sniff } from "../engine/sniff.js";
import { Problem } from "../engine/problem.js";

const RATE = 16000;
const MOST_UNKNOWN = 20 << 20; // bytes of a file that does not say how long it is
let output = null; // made at the first sound: browsers want a press of a button before
let playing = null;

/** Stop what plays. */
export function stop() {
  playing?.stop();
}

/** Play samples (16 kHz) or an AudioBuffer, or a promise of them; resolves at the end. One sound plays at a time. */
export async function play(promised) {
  stop();
  output ??= new AudioContext();
  await output.resume(); // first of all: a browser counts it to the press of the button
  const sound = await promised;
  let buffer = sound;
  if (!(sound instanceof AudioBuffer)) {
    buffer = output.createBuffer(1, sound.length, RATE);
    buffer.copyToChannel(sound, 0);
  }
  const source = new AudioBufferSourceNode(output, { buffer });
  source.connect(output.destination);
  playing = source;
  source.start();
  await new Promise((resolve) => (source.onended = resolve));
  if (playing === source) playing = null;
}

/** Decode a compressed file at its own rate: {samples, rate, channels, seconds}, channels averaged. */
export async function decode(bytes, limits) {
  const { rate, seconds } = sniff(bytes);
  if (seconds !== null && seconds > limits.UPLOAD_LIMIT_S) {
    throw new Problem("long", { minutes: seconds / 60, most: limits.UPLOAD_LIMIT_S / 60, used: limits.USED_S });
  }
  if (seconds === null && bytes.byteLength > MOST_UNKNOWN) throw new Problem("unknownLength");
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  } catch {
    throw new Problem("notAudio");
  }
  const used = Math.min(buffer.length, Math.round(limits.USED_S * buffer.sampleRate));
  const channels = Array.from({ length: buffer.numberOfChannels }, (_, c) => buffer.getChannelData(c).subarray(0, used));
  const samples = new Float32Array(used);
  for (const channel of channels) channel.forEach((x, n) => (samples[n] += x / channels.length));
  return { samples, rate: buffer.sampleRate, channels: channels.length, seconds: buffer.duration };
}

/** Start to record; returns {finish}, which ends it with {samples, rate, channels, seconds}. */
export async function record(onlevel) {
  if (!navigator.mediaDevices?.getUserMedia) throw new Problem("noMicrophone");
  let stream;
  try {
    // both of these change a voice
    stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false } });
  } catch (error) {
    throw new Problem(error.name === "NotAllowedError" || error.name === "SecurityError" ? "refused" : "noMicrophone");
  }
  const context = new AudioContext();
  const blocks = [];
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    return context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("./tap.js", import.meta.url));
    const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    tap.port.onmessage = ({ data }) => {
      blocks.push(data);
      onlevel(data.reduce((most, x) => Math.max(most, Math.abs(x)), 0));
    };
    context.createMediaStreamSource(stream).connect(tap);
  } catch {
    await close();
    throw new Problem("noMicrophone");
  }
  const rate = context.sampleRate;
  return {
    async finish() {
      await close();
      const samples = new Float32Array(blocks.reduce((sum, block) => sum + block.length, 0));
      blocks.reduce((at, block) => (samples.set(block, at), at + block.length), 0);
      return { samples, rate, channels: 1, seconds: samples.length / rate };
    },
  };
}
