/** Numbers: how a page has them, and how they are read. */

/** @param {number} half */
function fromHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 0) {
    return sign * fraction * 2 ** -24;
  }
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * A table's numbers, row by row.
 *
 * @param {Packed} packed
 */
export function unpacked({ bits, scale, data }) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = bits / 8;
  return Float64Array.from({ length: bytes.length / size }, (_, index) => {
    const at = index * size;
    const share =
      bits === 32 ? view.getFloat32(at, true) : fromHalf(view.getUint16(at, true));
    return scale * share;
  });
}

/** With its sign, and as many digits as can be read. @param {number} value */
export function signed(value) {
  const size = Math.abs(value);
  if (size === 0) {
    return "0";
  }
  let text = size.toExponential(0);
  if (size >= 0.00005) {
    text = size.toFixed(size < 0.09995 ? 4 : 3);
  }
  return (value < 0 ? "−" : "+") + text.replace("-", "−");
}

/** Words as such, in whatever direction they are read. @param {string} words */
export function quoted(words) {
  return `“\u2068${words}\u2069”`;
}

/** @param {ArrayLike<number>} values */
export function sum(values) {
  return Array.from(values).reduce((total, value) => total + value, 0);
}
