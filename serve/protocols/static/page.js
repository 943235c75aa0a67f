// The page: audio in, the server's features and scores drawn over time, a cursor that follows playback.

import { readNpy } from "./npy.js";
import { createPlayer, decodeChannel } from "./player.js";
import { drawHeat, drawWaveform, labelRows, spread } from "./plots.js";
import { startRecording } from "./recorder.js";
import { drawTier } from "./tiers.js";

const at = (id) => document.getElementById(id);
const MEL_ROW = 3;

let chosen = null;     // the file that was chosen last
let newest = null;     // AbortController of its requests
let shown = null;      // { file, level, names, scores, feats, samples, output, frameShift, seconds, top, url }
let searching = null;  // AbortController of the search for words in it
let player = null;     // where the browser can play the file that is shown
let stop = null;       // ends the recording that runs

const say = (text, bad = false) => {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
};

const choose = (file) => {
  at("channel-label").hidden = true;
  at("channel").value = "";
  return show(file);
};

// Chooses a file that is still to come, unless another one is chosen before it is there.
const chooseWhenThere = async (coming) => {
  newest?.abort();
  const { signal } = (newest = new AbortController());
  try {
    const file = await coming(signal);
    if (!signal.aborted) choose(file);
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
};

// Computes and draws a file.  A later choice aborts it, so that the page never mixes two files.
const show = async (file) => {
  chosen = file;
  newest?.abort();
  const { signal } = (newest = new AbortController());
  say(`Computing the posteriors of ${file.name} …`);
  try {
    const computed = await compute(file, signal);
    if (!signal.aborted) present(computed);
  } catch (error) {
    if (!signal.aborted) refuse(file, error);
  }
};

const refuse = (file, error) => {
  if (error.message.includes("parameter channel") && at("channel-label").hidden) {
    at("channel-label").hidden = false;
    at("channel").value = 0;
    show(file);
    return;
  }
  fail(error);
};

const fail = (error) => {
  clear();
  say(`That did not work: ${error.message}`, true);
};

const compute = async (file, signal) => {
  const output = at("output").value, channel = at("channel").value;
  const names = await namesOf(at("level").value, signal);
  at("level-label").hidden = !names;
  const level = names ? at("level").value : "pdf";
  const parameters = new URLSearchParams(channel === "" ? {} : { channel });
  const [scored, feats, samples] = await Promise.all([
    post(`v1/posteriors?${new URLSearchParams([["output", output], ["level", level], ...parameters])}`, file, signal),
    post(`v1/features?${parameters}`, file, signal),
    decodeChannel(file, Number(channel)),
  ]);
  const scores = readNpy(scored.buffer);
  const frameShift = Number(scored.headers.get("x-frame-shift-ms")) / 1000;
  const timing = scored.headers.get("server-timing") ?? "";
  return { file, channel, level, names, output, scores, feats: readNpy(feats.buffer), samples, frameShift, timing,
           npy: scored.buffer, seconds: scores.rows * frameShift };
};

// The names of the scores' columns; null where the model does not know its phones.
const namesOf = async (level, signal) => {
  const answer = await fetch(`v1/names?level=${level}`, { headers: keyHeader(), signal });
  return answer.ok ? (await answer.json()).names : null;
};

const keyHeader = () => (at("key").value ? { "X-API-Key": at("key").value } : {});

// What a row is called: a phone, or a pdf with the phone that it is most often of.
const nameOf = (column) => {
  const { level, names } = shown;
  if (level !== "pdf") return names[column];
  return names?.[column] ? `${names[column]} ${column}` : `pdf ${column}`;
};

const post = async (path, body, signal, accept = "application/x-npy") => {
  const headers = { Accept: accept, ...keyHeader() };
  // Of a form the browser says what it is, and its boundary.
  if (!(body instanceof FormData)) headers["Content-Type"] = body.type || "application/octet-stream";
  const answer = await fetch(path, { method: "POST", body, headers, signal });
  if (answer.status === 401) at("key-label").hidden = false;
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `the server answered ${answer.status}`);
  }
  return { buffer: await answer.arrayBuffer(), headers: answer.headers };
};

// Finds the words that are said, or where those of the text are said, in the file that is shown.
const search = async (path, text) => {
  searching?.abort();
  const { signal } = (searching = new AbortController()), { file, channel } = shown;
  const form = new FormData();
  if (text !== undefined) form.append("text", text);
  form.append("file", file);
  drawFound([], []);
  at("found").textContent = "Searching …";
  try {
    const parameters = new URLSearchParams(channel === "" ? {} : { channel });
    const answer = await post(`${path}?${parameters}`, form, signal, "application/json");
    const found = JSON.parse(new TextDecoder().decode(answer.buffer));
    if (!signal.aborted) presentFound(found);
  } catch (error) {
    if (!signal.aborted) at("found").textContent = `That did not work: ${error.message}`;
  }
};

const presentFound = ({ text, words, phones, doubt }) => {
  if (text !== undefined) at("text").value = text;
  at("found").textContent = doubt ?? `${words.length} words, ${phones.length} phones.`;
  drawFound(words, phones);
};

const drawFound = (words, phones) => {
  drawTier(at("words"), words, "word", shown.seconds, ({ start, end }) => {
    if (player) player.playSpan(start, end);
    else moveTo(start);
  });
  drawTier(at("phones"), phones, "phone", shown.seconds);
};

const kind = () => (shown.level === "pdf" ? "pdfs" : "phones");

const clear = () => {
  searching?.abort();
  player?.close();
  if (shown) URL.revokeObjectURL(shown.url);
  player = shown = null;
  at("result").hidden = true;
};

const present = (computed) => {
  clear();
  shown = computed;
  shown.url = URL.createObjectURL(new Blob([shown.npy], { type: "application/x-npy" }));
  at("name").textContent = shown.channel === "" ? shown.file.name : `${shown.file.name}, channel ${shown.channel}`;
  at("download").href = shown.url;
  at("download").download = `${shown.file.name.replace(/\.[^.]*$/, "")}.${shown.level === "pdf" ? "" : `${shown.level}.`}${shown.output}.npy`;
  at("at-column").textContent = shown.level === "pdf" ? "pdf" : "phone";
  at("figures").textContent = shown.timing.replaceAll(";dur=", " ").replaceAll(",", " ms,") + " ms";
  at("timeline").max = shown.seconds;
  at("result").hidden = false;
  at("found").textContent = "";
  drawFound([], []);
  drawSound();
  drawSpectrogram();
  drawScores();
  moveTo(0);
  say(`${at("name").textContent}: ${shown.scores.rows} frames, ${shown.scores.columns} ${kind()}.`);
};

const drawSound = () => {
  const { file, feats, samples } = shown;
  at("play").disabled = !samples;
  at("play").textContent = "Play";
  at("play").title = samples ? "" : "This browser cannot play the file's format";
  if (samples) {
    const changed = (isPlaying) => { at("play").textContent = isPlaying ? "Pause" : "Play"; };
    player = createPlayer(file, moveTo, changed, (why) => say(`This browser cannot play it: ${why}`, true));
    drawWaveform(at("waveform"), samples);
    return;
  }
  // The loudness of each frame stands in for the waveform.
  drawWaveform(at("waveform"), Float32Array.from({ length: feats.rows }, (_, frame) =>
    (frame % 2 ? 1 : -1) * Math.exp(feats.values[frame * feats.columns] / 2)));
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
  labelRows(at("pdf-axis"), shown.top.map((column, row) => [row, nameOf(column)]), rowHeight);
  const name = at("output").selectedOptions[0].textContent;
  at("heat-caption").textContent = `The ${shown.top.length} most active ${kind()}, ${name}; dark: ${limits[0].toPrecision(2)}, light: ${limits[1].toPrecision(2)}`;
};

const moveTo = (wanted) => {
  // A file is longer than its frames by a part of a window.
  const seconds = Math.min(wanted, shown.seconds);
  const share = shown.seconds ? seconds / shown.seconds : 0;
  for (const cursor of document.querySelectorAll(".cursor")) cursor.style.left = `${100 * share}%`;
  at("timeline").value = seconds;
  at("timeline").setAttribute("aria-valuetext", `${seconds.toFixed(2)} seconds`);
  at("time").textContent = `${seconds.toFixed(2)} s of ${shown.seconds.toFixed(2)} s`;
  const frame = Math.min(Math.floor(seconds / shown.frameShift), shown.scores.rows - 1);
  const row = shown.scores.values.subarray(frame * shown.scores.columns, (frame + 1) * shown.scores.columns);
  const best = Array.from(row.keys()).sort((a, b) => row[b] - row[a]).slice(0, 5);
  at("at").replaceChildren(...best.map((pdf) => {
    const line = document.createElement("tr");
    line.insertCell().textContent = shown.names ? nameOf(pdf) : pdf;
    const score = line.insertCell();
    score.className = "number";
    score.textContent = row[pdf].toFixed(4);
    return line;
  }));
};

const seek = (seconds) => {
  if (!shown) return;
  const bounded = Math.max(0, Math.min(seconds, shown.seconds));
  player?.seek(bounded);
  moveTo(bounded);
};

const toggleRecording = async () => {
  const button = at("record");
  button.disabled = true;
  try {
    if (stop) await endRecording();
    else {
      stop = await startRecording();
      say("Recording …");
    }
  } catch (error) {
    say(`No microphone: ${error.message}`, true);
  }
  button.disabled = false;
  button.setAttribute("aria-pressed", String(Boolean(stop)));
  button.textContent = stop ? "Stop" : "Record";
};

const endRecording = async () => {
  const finish = stop;
  stop = null;
  await chooseWhenThere(finish);
};

const loadSample = async (signal) => {
  const answer = await fetch("static/sample.flac", { signal });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return new File([await answer.blob()], "sample.flac", { type: "audio/flac" });
};

const chooseFile = () => {
  const [file] = at("file").files;
  at("file").value = "";  // so that the same file can be chosen again
  if (file) choose(file);
};

at("file").addEventListener("change", chooseFile);
at("record").addEventListener("click", toggleRecording);
at("sample").addEventListener("click", () => chooseWhenThere(loadSample));
at("play").addEventListener("click", () => player?.toggle());
at("timeline").addEventListener("input", () => seek(Number(at("timeline").value)));
at("rows").addEventListener("change", drawScores);
// The Enter key changes a field, too; a form of several fields without a button it does not submit.
for (const name of ["output", "level", "channel", "key"])
  at(name).addEventListener("change", () => chosen && show(chosen));
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search("v1/alignments", at("text").value);
});
at("transcribe").addEventListener("click", () => search("v1/transcripts"));
at("options").addEventListener("submit", (event) => event.preventDefault());
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
  if (event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
});
