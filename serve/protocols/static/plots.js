// Draws a waveform and heat maps on canvases whose width is time.

// A perceptually even map from dark violet to yellow, given at even steps.
const STOPS = [[13, 8, 60], [84, 15, 109], [158, 42, 99], [215, 75, 65], [245, 135, 24], [248, 205, 70], [252, 255, 200]];

const colour = (share) => {
  const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[low].map((value, k) => value + (STOPS[low + 1][k] - value) * (at - low));
};

const PALETTE = Uint8ClampedArray.from({ length: 256 * 4 }, (_, k) =>
  k % 4 === 3 ? 255 : colour(Math.floor(k / 4) / 255)[k % 4]);

// Browsers show nothing of a canvas with too many columns.
const MOST_COLUMNS = 1 << 14;

// One pixel per frame and row, stretched by the style sheet; `rows` are columns of the matrix, top first.
// Of more frames than fit on a canvas some are left out.
export const drawHeat = (canvas, matrix, rows, low, high, rowHeight) => {
  const width = (canvas.width = Math.min(matrix.rows, MOST_COLUMNS));
  canvas.height = rows.length;
  canvas.style.height = `${rows.length * rowHeight}px`;
  canvas.style.imageRendering = "pixelated";
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, rows.length);
  rows.forEach((column, row) => {
    for (let x = 0; x < width; x++) {
      const frame = Math.floor((x * matrix.rows) / width);
      const share = (matrix.values[frame * matrix.columns + column] - low) / (high - low);
      const shade = 4 * Math.round(255 * Math.min(Math.max(share, 0), 1));
      image.data.set(PALETTE.subarray(shade, shade + 4), 4 * (row * width + x));
    }
  });
  context.putImageData(image, 0, 0);
};

export const drawWaveform = (canvas, samples) => {
  const ratio = devicePixelRatio || 1;
  canvas.style.height = "90px";
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.round(90 * ratio);
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  const middle = canvas.height / 2;
  const step = samples.length / canvas.width;
  let peak = 1e-4;
  for (const value of samples) peak = Math.max(peak, Math.abs(value));
  for (let x = 0; x < canvas.width; x++) {
    let low = 0, high = 0;
    for (let k = Math.floor(x * step); k < (x + 1) * step && k < samples.length; k++) {
      low = Math.min(low, samples[k]);
      high = Math.max(high, samples[k]);
    }
    const top = middle - (high / peak) * middle * 0.95;
    context.fillRect(x, top, 1, Math.max(1, middle - (low / peak) * middle * 0.95 - top));
  }
};

export const labelRows = (axis, labels, rowHeight) => {
  axis.replaceChildren(...labels.map(([row, text]) => {
    const label = document.createElement("span");
    label.textContent = text;
    label.style.top = `${(row + 0.5) * rowHeight}px`;
    return label;
  }));
};

// The limits of a matrix's values, without the lowest percent.
export const spread = (matrix, columns) => {
  const seen = new Float32Array(matrix.rows * columns.length);
  columns.forEach((column, k) => {
    for (let frame = 0; frame < matrix.rows; frame++)
      seen[k * matrix.rows + frame] = matrix.values[frame * matrix.columns + column];
  });
  seen.sort();
  return [seen[Math.floor(seen.length / 100)], seen[seen.length - 1] + 1e-9];
};
