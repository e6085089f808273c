// Rate and length of a compressed file from its header, so that the browser decodes it at its own rate.

const UNKNOWN = { rate: 48000, seconds: null };
const MP3_RATES = [44100, 48000, 32000];
const MP3_KBIT = { // by MPEG version 1 and 2, layer 3
  1: [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320],
  2: [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
};
const CONTAINERS = new Set(["moov", "trak", "mdia", "minf", "stbl"]);

/** {rate [Hz], seconds or null}; a file of an unknown kind gets 48 kHz. */
export function sniff(bytes) {
  const view = new DataView(bytes);
  const text = (at, length) => (at + length <= view.byteLength ? String.fromCharCode(...new Uint8Array(bytes, at, length)) : "");
  try {
    if (text(0, 4) === "fLaC") return flac(view, 8);
    if (text(0, 4) === "OggS") return ogg(view, text);
    if (text(4, 4) === "ftyp") return mp4(view, text);
    if (text(0, 3) === "ID3" || (view.getUint16(0) & 0xffe0) === 0xffe0) return mp3(view, text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a header that ends too early: decoding will tell
  }
  return UNKNOWN;
}

function flac(view, at) {
  const rate = (view.getUint16(at + 10) << 4) | (view.getUint8(at + 12) >> 4);
  const samples = (view.getUint8(at + 13) & 15) * 2 ** 32 + view.getUint32(at + 14);
  return rate ? { rate, seconds: samples ? samples / rate : null } : UNKNOWN;
}

function ogg(view, text) {
  const packet = 27 + view.getUint8(26);
  const vorbis = text(packet + 1, 6) === "vorbis";
  const rate = vorbis ? view.getUint32(packet + 12, true) : 48000;
  let at = view.byteLength - 27;
  while (at > 0 && text(at, 4) !== "OggS") at--; // the last page
  const samples = view.getUint32(at + 6, true) + view.getUint32(at + 10, true) * 2 ** 32;
  const known = vorbis || text(packet, 8) === "OpusHead";
  return { rate, seconds: known && samples < 2 ** 50 ? samples / rate : null };
}

function mp3(view, text) {
  let start = 0;
  if (text(0, 3) === "ID3") start = 10 + [6, 7, 8, 9].reduce((sum, i) => sum * 128 + view.getUint8(i), 0);
  const head = view.getUint32(start);
  const version = (head >> 19) & 3; // 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
  const rate = MP3_RATES[(head >> 10) & 3] / { 3: 1, 2: 2, 0: 4 }[version];
  const kbit = MP3_KBIT[version === 3 ? 1 : 2][(head >> 12) & 15];
  if (!rate) return UNKNOWN;
  const mono = ((head >> 6) & 3) === 3;
  const info = start + 4 + (version === 3 ? (mono ? 17 : 32) : mono ? 9 : 17);
  if (["Xing", "Info"].includes(text(info, 4)) && view.getUint32(info + 4) & 1) {
    return { rate, seconds: (view.getUint32(info + 8) * (version === 3 ? 1152 : 576)) / rate };
  }
  return { rate, seconds: kbit ? ((view.byteLength - start) * 8) / (1000 * kbit) : null };
}

function mp4(view, text) {
  const found = { ...UNKNOWN };
  const walk = (from, to) => {
    for (let at = from; at + 8 <= to; ) {
      const size = view.getUint32(at) || to - at, name = text(at + 4, 4);
      if (CONTAINERS.has(name)) walk(at + 8, Math.min(at + size, to));
      if (name === "mvhd") {
        const long = view.getUint8(at + 8) === 1;
        const scale = view.getUint32(at + (long ? 28 : 20));
        const length = long ? view.getUint32(at + 32) * 2 ** 32 + view.getUint32(at + 36) : view.getUint32(at + 24);
        found.seconds = scale ? length / scale : null;
      }
      if (name === "stsd" && text(at + 20, 4) === "mp4a") found.rate = view.getUint32(at + 48) >>> 16 || UNKNOWN.rate;
      if (size < 8) return;
      at += size;
    }
  };
  walk(0, view.byteLength);
  return found;
}
