// Plays a file and tells where it is.

// `moved(seconds)` is called as playback goes on, `changed(isPlaying)` when it starts or stops, `failed(why)`
// when it cannot start.
export const createPlayer = (file, moved, changed, failed) => {
  const url = URL.createObjectURL(file);
  const sound = new Audio(url);
  let until = Infinity;
  const follow = () => {
    if (sound.currentTime >= until) sound.pause();
    moved(sound.currentTime);
    if (!sound.paused) requestAnimationFrame(follow);
  };
  sound.addEventListener("play", () => { changed(true); follow(); });
  sound.addEventListener("pause", () => { changed(false); moved(sound.currentTime); });
  const play = () =>
    sound.play().catch((error) => { if (error.name !== "AbortError") failed(error.message); });
  return {
    toggle: () => {
      until = Infinity;
      if (!sound.paused) sound.pause();
      else play();
    },
    playSpan: (begin, end) => {
      sound.currentTime = begin;
      until = end;
      play();
    },
    seek: (seconds) => {
      until = Infinity;
      sound.currentTime = seconds;
    },
    close: () => {
      moved = changed = failed = () => {};
      sound.pause();
      URL.revokeObjectURL(url);
    },
  };
};

// The samples of one channel, or null: browsers do not know some formats of speech corpora.
export const decodeChannel = async (file, channel) => {
  try {
    const decoded = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await file.arrayBuffer());
    return decoded.getChannelData(channel);
  } catch {
    return null;
  }
};
