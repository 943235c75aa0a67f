// The page: audio in, the server's features and scores drawn over time, a cursor that follows playback.

import { readNpy } from "./npy.js";
import { drawHeat, drawWaveform, labelRows, spread } from "./plots.js";
import { startRecording } from "./recorder.js";

const at = (id) => document.getElementById(id);
const MEL_ROW = 3;

let audio = null;      // the file that was sent
let shown = null;      // { scores, feats, seconds, top, url }
let player = null;     // an <audio>, where the browser can play the file
let stop = null;       // ends the recording that runs

const say = (text, bad = false) => {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
};

const post = async (path) => {
  const headers = { Accept: "application/x-npy", "Content-Type": audio.type || "application/octet-stream" };
  if (at("key").value) headers["X-API-Key"] = at("key").value;
  const answer = await fetch(path, { method: "POST", body: audio, headers });
  if (answer.status === 401) at("key-label").hidden = false;
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `the server answered ${answer.status}`);
  }
  return { buffer: await answer.arrayBuffer(), headers: answer.headers };
};

const show = async (file) => {
  audio = file;
  say(`Computing the posteriors of ${file.name} …`);
  try {
    const output = at("output").value;
    const [scored, feats] = await Promise.all([post(`v1/posteriors?output=${output}`), post("v1/features")]);
    await present(readNpy(scored.buffer), readNpy(feats.buffer), scored, output);
    say(`${file.name}: ${shown.scores.rows} frames, ${shown.scores.columns} pdfs.`);
  } catch (error) {
    say(`That did not work: ${error.message}`, true);
  }
};

const present = async (scores, feats, scored, output) => {
  if (shown) URL.revokeObjectURL(shown.url);
  const frameShift = Number(scored.headers.get("x-frame-shift-ms")) / 1000;
  shown = { scores, feats, output, frameShift, seconds: scores.rows * frameShift };
  shown.url = URL.createObjectURL(new Blob([scored.buffer], { type: "application/x-npy" }));
  at("download").href = shown.url;
  at("download").download = `${audio.name.replace(/\.[^.]*$/, "")}.${output}.npy`;
  at("figures").textContent = (scored.headers.get("server-timing") ?? "").replaceAll(";dur=", " ").replaceAll(",", " ms,") + " ms";
  at("timeline").max = shown.seconds;
  at("result").hidden = false;
  drawSpectrogram();
  drawScores();
  await loadPlayer();
  moveTo(0);
};

const drawSpectrogram = () => {
  // Column 0 is the energy; low bands belong at the bottom.
  const bands = Array.from({ length: shown.feats.columns - 1 }, (_, k) => shown.feats.columns - 1 - k);
  drawHeat(at("spectrogram"), shown.feats, bands, ...spread(shown.feats, bands), MEL_ROW);
  labelRows(at("mel-axis"), [[0, `mel ${bands.length}`], [bands.length - 1, "mel 1"]], MEL_ROW);
};

// The pdfs with most probability over the utterance, in the order in which they are first the best.
const topPdfs = (count) => {
  const { scores, output } = shown;
  const mass = new Float64Array(scores.columns), first = new Float64Array(scores.columns).fill(Infinity);
  for (let frame = 0; frame < scores.rows; frame++) {
    let best = 0;
    for (let pdf = 0; pdf < scores.columns; pdf++) {
      const score = scores.values[frame * scores.columns + pdf];
      mass[pdf] += output === "posterior" ? score : Math.exp(Math.min(score, 20));
      if (score > scores.values[frame * scores.columns + best]) best = pdf;
    }
    first[best] = Math.min(first[best], frame);
  }
  const order = Array.from(mass.keys()).sort((a, b) => mass[b] - mass[a]).slice(0, count);
  return order.sort((a, b) => first[a] - first[b] || a - b);
};

const drawScores = () => {
  if (!shown) return;
  shown.top = topPdfs(Number(at("rows").value));
  const [lowest, highest] = spread(shown.scores, shown.top);
  const limits = [shown.output === "posterior" ? 0 : lowest, highest];
  const rowHeight = Math.max(8, Math.round(340 / shown.top.length));
  drawHeat(at("heat"), shown.scores, shown.top, ...limits, rowHeight);
  labelRows(at("pdf-axis"), shown.top.map((pdf, row) => [row, `pdf ${pdf}`]), rowHeight);
  const name = at("output").selectedOptions[0].textContent;
  at("heat-caption").textContent = `The ${shown.top.length} most active pdfs, ${name}; dark: ${limits[0].toPrecision(2)}, light: ${limits[1].toPrecision(2)}`;
};

const loadPlayer = async () => {
  player?.pause();
  player = null;
  at("play").disabled = true;
  at("play").textContent = "Play";
  try {
    const context = new OfflineAudioContext(1, 1, 16000);
    const decoded = await context.decodeAudioData(await audio.arrayBuffer());
    drawWaveform(at("waveform"), decoded.getChannelData(0));
  } catch {
    // A format of speech corpora that browsers do not know: the loudness of each frame stands in.
    const energy = Float32Array.from({ length: shown.feats.rows }, (_, frame) =>
      (frame % 2 ? 1 : -1) * Math.exp(shown.feats.values[frame * shown.feats.columns] / 2));
    drawWaveform(at("waveform"), energy);
    at("time").title = "This browser cannot play the file's format";
    return;
  }
  player = new Audio(URL.createObjectURL(audio));
  player.addEventListener("play", follow);
  player.addEventListener("pause", () => { at("play").textContent = "Play"; });
  at("play").disabled = false;
};

const follow = () => {
  at("play").textContent = "Pause";
  moveTo(player.currentTime);
  if (!player.paused) requestAnimationFrame(follow);
};

const moveTo = (seconds) => {
  const share = shown.seconds ? Math.min(seconds / shown.seconds, 1) : 0;
  for (const cursor of document.querySelectorAll(".cursor")) cursor.style.left = `${100 * share}%`;
  at("timeline").value = seconds;
  at("timeline").setAttribute("aria-valuetext", `${seconds.toFixed(2)} seconds`);
  at("time").textContent = `${seconds.toFixed(2)} s of ${shown.seconds.toFixed(2)} s`;
  const frame = Math.min(Math.floor(seconds / shown.frameShift), shown.scores.rows - 1);
  const row = shown.scores.values.subarray(frame * shown.scores.columns, (frame + 1) * shown.scores.columns);
  const best = Array.from(row.keys()).sort((a, b) => row[b] - row[a]).slice(0, 5);
  at("at").replaceChildren(...best.map((pdf) => {
    const line = document.createElement("tr");
    line.insertCell().textContent = pdf;
    const score = line.insertCell();
    score.className = "number";
    score.textContent = row[pdf].toFixed(4);
    return line;
  }));
};

const seek = (seconds) => {
  if (!shown) return;
  const bounded = Math.max(0, Math.min(seconds, shown.seconds));
  if (player) player.currentTime = bounded;
  moveTo(bounded);
};

const toggleRecording = async () => {
  const button = at("record");
  if (stop) {
    const finish = stop;
    stop = null;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Record";
    await show(await finish());
    return;
  }
  try {
    stop = await startRecording();
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop";
    say("Recording …");
  } catch (error) {
    say(`No microphone: ${error.message}`, true);
  }
};

const toggle = () => player && (player.paused ? player.play() : player.pause());

at("file").addEventListener("change", () => at("file").files.length && show(at("file").files[0]));
at("record").addEventListener("click", toggleRecording);
at("play").addEventListener("click", toggle);
at("timeline").addEventListener("input", () => seek(Number(at("timeline").value)));
at("rows").addEventListener("change", drawScores);
at("output").addEventListener("change", () => audio && show(audio));
at("options").addEventListener("submit", (event) => { event.preventDefault(); if (audio) show(audio); });
for (const plot of document.querySelectorAll(".plot"))
  plot.addEventListener("click", (event) => {
    const box = plot.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * shown.seconds);
  });

const drop = document.body;
drop.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
drop.addEventListener("dragleave", () => at("drop").classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
});
