// A button that records speech: microphone -> Web Audio -> 16-bit WAV -> the kernel. No build step.
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
  let running = null, timer = 0, blocks = [];
  const label = (text) => { button.textContent = text; button.disabled = text === "wait"; };
  const stop = () => {
    clearTimeout(timer);
    running.stop();
    model.send({}, undefined, [wav(blocks, running.rate)]);
    [running, blocks] = [null, []];
    label("record");
  };
  const start = async () => {
    label("wait"); // the browser may ask for permission
    try {
      running = await listen((block) => blocks.push(block));
      timer = setTimeout(stop, 1000 * model.get("longest_s"));
    } catch (error) { model.send({ problem: error.message }); }
    label(running ? "stop" : "record");
    button.focus(); // a disabled button loses it
  };
  label("record");
  button.onclick = () => (running ? stop() : start());
  el.appendChild(button);
  return () => { clearTimeout(timer); if (running) running.stop(); };
}
export default { render };
