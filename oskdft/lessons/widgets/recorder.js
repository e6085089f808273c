// A button that records speech: microphone -> Web Audio -> 16-bit WAV -> the kernel. No build step.
// Beside it stands the consent line; while it records, the level of the microphone and a clock.
const TAP = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process([[samples]]) { if (samples) this.port.postMessage(samples.slice()); return true; }
});`;
const VOICE = { echoCancellation: false, noiseSuppression: false }; // both change a voice

async function listen(take) {
  if (!navigator.mediaDevices) throw new Error("it needs https or localhost");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: VOICE });
  const context = new AudioContext();
  const stop = () => { stream.getTracks().forEach((track) => track.stop()); context.close(); };
  try {
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(TAP)}`);
  } catch (error) { stop(); throw error; }
  const one = { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" };
  const tap = new AudioWorkletNode(context, "tap", one);
  tap.port.onmessage = ({ data }) => take(data);
  context.createMediaStreamSource(stream).connect(tap);
  return { rate: context.sampleRate, stop };
}

function wav(blocks, rate) {
  const samples = blocks.flatMap((block) => Array.from(block));
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const words = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  [[0, "RIFF"], [8, "WAVEfmt "], [36, "data"]].forEach((pair) => words(...pair));
  [[4, 36 + 2 * samples.length], [16, 16], [24, rate], [28, 2 * rate], [40, 2 * samples.length]]
    .forEach(([at, value]) => view.setUint32(at, value, true));
  [[20, 1], [22, 1], [32, 2], [34, 16]].forEach(([at, value]) => view.setUint16(at, value, true));
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, 32767 * Math.max(-1, Math.min(1, x)), true));
  return view.buffer;
}

function render({ model, el }) {
  const looks = { className: "jupyter-widgets jupyter-button widget-button", title: model.get("name") };
  const button = Object.assign(document.createElement("button"), looks);
  const meter = Object.assign(document.createElement("meter"), { min: 0, max: 1, high: 0.95, optimum: 0.5 });
  meter.setAttribute("aria-label", "Level of the microphone");
  const about = document.createElement("span");
  about.style.cssText = "font-size:13px;margin-left:6px;white-space:normal;line-height:1.2";
  const longest = model.get("longest_s");
  let running = null, open = false, timer = 0, blocks = [];
  const heard = (block) => {
    if (!open) return; // sent before the stop, arrived behind it
    blocks.push(block);
    // a block lasts 3 ms: the level falls slowly enough to be seen
    meter.value = block.reduce((most, x) => Math.max(most, Math.abs(x)), 0.99 * meter.value);
    const seconds = blocks.reduce((sum, one) => sum + one.length, 0) / (running ? running.rate : Infinity);
    about.textContent = `${seconds.toFixed(1)} s of at most ${longest} s.`;
  };
  const rest = () => { meter.hidden = true; meter.value = 0; about.textContent = model.get("consent"); };
  const label = (text) => { button.textContent = text; button.disabled = text === "wait"; };
  const stop = () => {
    clearTimeout(timer);
    open = false;
    running.stop();
    model.send({}, undefined, [wav(blocks, running.rate)]);
    [running, blocks] = [null, []];
    label("record");
    rest();
  };
  const start = async () => {
    label("wait"); // the browser may ask for permission
    open = true;
    try {
      running = await listen(heard);
      meter.hidden = false;
      timer = setTimeout(stop, 1000 * longest);
    } catch (error) { open = false; model.send({ problem: error.message }); }
    label(running ? "stop" : "record");
    button.focus(); // a disabled button loses it
  };
  label("record");
  button.onclick = () => (running ? stop() : start());
  rest();
  el.style.cssText = "display:flex;align-items:center;max-width:430px";
  el.append(button, meter, about);
  return () => { clearTimeout(timer); if (running) running.stop(); };
}
export default { render };
