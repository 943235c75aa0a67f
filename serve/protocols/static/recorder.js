// Records the microphone as a WAV file: 16-bit, one channel, at the rate that the browser gives.

const WORKLET = "static/capture.js";

export const startRecording = async () => {
  if (!navigator.mediaDevices)
    throw new Error("browsers give one only to pages over HTTPS or from localhost");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext();
  const release = async () => {
    for (const track of stream.getTracks()) track.stop();
    await context.close();
  };
  const blocks = [];
  try {
    await capture(stream, context, blocks);
  } catch (error) {
    await release();
    throw error;
  }
  return async () => {
    await release();
    return wavFile(blocks, context.sampleRate);
  };
};

const capture = async (stream, context, blocks) => {
  await context.audioWorklet.addModule(WORKLET);
  const node = new AudioWorkletNode(context, "capture");
  node.port.onmessage = (message) => blocks.push(message.data);
  context.createMediaStreamSource(stream).connect(node);
};

export const wavFile = (blocks, sampleRate) => {
  const length = blocks.reduce((sum, block) => sum + block.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const text = (at, letters) => [...letters].forEach((letter, k) => view.setUint8(at + k, letter.charCodeAt(0)));
  text(0, "RIFF"); view.setUint32(4, 36 + 2 * length, true); text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, sampleRate, true); view.setUint32(28, 2 * sampleRate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  text(36, "data"); view.setUint32(40, 2 * length, true);
  let at = 44;
  for (const block of blocks)
    for (const value of block) {
      view.setInt16(at, Math.max(-1, Math.min(1, value)) * 32767, true);
      at += 2;
    }
  return new File([view], "recording.wav", { type: "audio/wav" });
};
