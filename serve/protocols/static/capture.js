// Hands every block of the microphone's samples to the page.

registerProcessor("capture", class extends AudioWorkletProcessor {
  process([[channel]]) {
    if (channel) this.port.postMessage(channel.slice());
    return true;
  }
});
