// Reads NumPy's npy format: a little-endian float32 matrix in C order.

export const readNpy = (buffer) => {
  const view = new DataView(buffer);
  const long = view.getUint8(6) > 1;
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(buffer.slice(long ? 12 : 10, start));
  const [, rows, columns] = header.match(/'shape': \((\d+), (\d+)\)/).map(Number);
  if (!header.includes("'<f4'") || header.includes("'fortran_order': True"))
    throw new Error("unexpected type of array");
  // Float32Array needs an aligned offset, which npy's header is padded to.
  return { rows, columns, values: new Float32Array(buffer, start, rows * columns) };
};
