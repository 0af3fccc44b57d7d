// Reads a JPEG of 320x240 as `images.read_small` does in Python: decoded at half size inside the transform, as
// libjpeg does it (jidctred.c, jidctint.c, jdcolor.c), then averaged to 80x60, to the same bits.
// What a browser's own decoder gives has been rounded at full size: enough to tip some images to another class.
"use strict";

{
  const ZIGZAG = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
  ];
  const clamp = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);
  const descale = (value, bits) => (value + (1 << (bits - 1))) >> bits;

  /** RGB of 80x60 pixels (Uint8Array), or null if the file is not of the kind that the data set is made of. */
  globalThis.readSmallJpeg = (bytes) => {
    try {
      const header = readHeader(bytes);
      return header && average(decodeHalf(bytes, header), 160, 120);
    } catch {
      return null; // damaged: let the browser say so
    }
  };

  // Tables and components, if this is a plain 320x240 JPEG in three components with colour at half size; else null.
  function readHeader(bytes) {
    const word = (at) => (bytes[at] << 8) | bytes[at + 1];
    const tables = [], codes = {};
    let components = null;
    if (word(0) !== 0xffd8) return null;
    for (let at = 2; at < bytes.length; at += 2 + word(at + 2)) {
      const marker = word(at), end = at + 2 + word(at + 2);
      let p = at + 4;
      if (marker === 0xffdb) {
        while (p < end) {
          const id = bytes[p++];
          if (id > 3) return null; // 16 bits a value
          tables[id] = bytes.subarray(p, (p += 64));
        }
      } else if (marker === 0xffc4) {
        while (p < end) {
          const id = bytes[p++], counts = bytes.subarray(p, (p += 16));
          const total = counts.reduce((a, b) => a + b, 0);
          codes[id] = readCodes(counts, bytes.subarray(p, (p += total)));
        }
      } else if (marker === 0xffc0) {
        if (bytes[p] !== 8 || word(p + 1) !== 240 || word(p + 3) !== 320 || bytes[p + 5] !== 3) return null;
        const ofComponent = (i) => bytes.subarray(p + 6 + 3 * i, p + 9 + 3 * i);
        components = [0, 1, 2].map(ofComponent).map(([id, size, table]) => ({ id, size, table }));
        if (components.some((c, i) => c.id !== i + 1 || c.size !== (i ? 0x11 : 0x22))) return null;
      } else if (marker === 0xffda) {
        if (!components || bytes[p] !== 3) return null;
        for (let i = 0; i < 3; i++) {
          const id = bytes[p + 2 + 2 * i], component = components[i];
          component.table = tables[component.table];
          [component.dc, component.ac] = [codes[id >> 4], codes[16 + (id & 15)]];
        }
        return { components, start: end };
      } else if (marker !== 0xffe0 && marker !== 0xfffe) {
        return null; // progressive, restarts, EXIF (which may turn it), a colour profile, another colour space
      }
    }
    return null;
  }

  // By length and code: the value.
  function readCodes(counts, values) {
    const found = new Map();
    let code = 0, k = 0;
    for (let length = 1; length <= 16; length++, code <<= 1)
      for (let i = 0; i < counts[length - 1]; i++) found.set((length << 16) | code++, values[k++]);
    return found;
  }

  function decodeHalf(bytes, { components, start }) {
    let at = start, held = 0, left = 0;
    const bit = () => {
      if (!left) {
        if (at >= bytes.length) throw new Error("ends too early");
        held = bytes[at++];
        if (held === 0xff && bytes[at++] !== 0) throw new Error("a marker among the data");
        left = 8;
      }
      return (held >> --left) & 1;
    };
    const symbol = (codes) => {
      for (let length = 1, code = 0; length <= 16; length++) {
        code = (code << 1) | bit();
        const value = codes.get((length << 16) | code);
        if (value !== undefined) return value;
      }
      throw new Error("no such code");
    };
    const number = (length) => {
      let value = 0;
      for (let i = 0; i < length; i++) value = (value << 1) | bit();
      return value < 1 << (length - 1) ? value - (1 << length) + 1 : value;
    };
    const last = [0, 0, 0];
    const block = (i) => {
      const { dc, ac, table } = components[i], values = new Int32Array(64);
      const length = symbol(dc);
      last[i] += length ? number(length) : 0;
      values[0] = last[i] * table[0];
      for (let k = 1; k < 64; k++) {
        const runAndLength = symbol(ac);
        k += runAndLength >> 4;
        if (runAndLength & 15) values[ZIGZAG[k]] = number(runAndLength & 15) * table[k];
        else if (runAndLength !== 0xf0) break;
      }
      return values;
    };
    const planes = [0, 1, 2].map(() => new Uint8Array(160 * 120));
    for (let y = 0; y < 120; y += 8)
      for (let x = 0; x < 160; x += 8) {
        for (let part = 0; part < 4; part++)
          inverse4(block(0), planes[0], (y + 4 * (part >> 1)) * 160 + x + 4 * (part & 1));
        for (const i of [1, 2]) inverse8(block(i), planes[i], y * 160 + x);
      }
    return toRgb(planes);
  }

  // 8x8 coefficients to 4x4 values, each the mean of 2x2 of the full size.
  function inverse4(c, plane, corner) {
    const pass = (v, from, step, put) => {
      const even = v[from] << 14, part = 15137 * v[from + 2 * step] - 6270 * v[from + 6 * step];
      const [z4, z3, z2, z1] = [1, 3, 5, 7].map((k) => v[from + k * step]);
      const inner = -1730 * z1 + 11893 * z2 - 17799 * z3 + 8697 * z4;
      const outer = -4176 * z1 - 4926 * z2 + 7373 * z3 + 20995 * z4;
      put(0, even + part + outer), put(3, even + part - outer);
      put(1, even - part + inner), put(2, even - part - inner);
    };
    const rows = new Int32Array(32);
    for (let x = 0; x < 8; x++) pass(c, x, 8, (y, sum) => (rows[8 * y + x] = descale(sum, 12)));
    for (let y = 0; y < 4; y++)
      pass(rows, 8 * y, 1, (x, sum) => (plane[corner + 160 * y + x] = clamp(descale(sum, 19) + 128)));
  }

  function inverse8(c, plane, corner) {
    const pass = (v, from, step, put) => {
      const at = (k) => v[from + k * step];
      const z = (at(2) + at(6)) * 4433, low = z - at(6) * 15137, high = z + at(2) * 6270;
      const sum = (at(0) + at(4)) << 13, difference = (at(0) - at(4)) << 13;
      const even = [sum + high, difference + low, difference - low, sum - high];
      const z5 = (at(7) + at(3) + at(5) + at(1)) * 9633;
      const z1 = (at(7) + at(1)) * -7373, z2 = (at(5) + at(3)) * -20995;
      const z3 = (at(7) + at(3)) * -16069 + z5, z4 = (at(5) + at(1)) * -3196 + z5;
      const odd = [at(1) * 12299 + z1 + z4, at(3) * 25172 + z2 + z3, at(5) * 16819 + z2 + z4, at(7) * 2446 + z1 + z3];
      for (let k = 0; k < 4; k++) put(k, even[k] + odd[k]), put(7 - k, even[k] - odd[k]);
    };
    const rows = new Int32Array(64);
    for (let x = 0; x < 8; x++) pass(c, x, 8, (y, sum) => (rows[8 * y + x] = descale(sum, 11)));
    for (let y = 0; y < 8; y++)
      pass(rows, 8 * y, 1, (x, sum) => (plane[corner + 160 * y + x] = clamp(descale(sum, 18) + 128)));
  }

  function toRgb([luma, blue, red]) {
    const rgb = new Uint8Array(3 * luma.length);
    luma.forEach((y, i) => {
      const cb = blue[i] - 128, cr = red[i] - 128;
      rgb[3 * i] = clamp(y + ((91881 * cr + 32768) >> 16));
      rgb[3 * i + 1] = clamp(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
      rgb[3 * i + 2] = clamp(y + ((116130 * cb + 32768) >> 16));
    });
    return rgb;
  }

  // Means of 2x2, a half rounded up as OpenCV does.
  function average(rgb, width, height) {
    const small = new Uint8Array((3 * width * height) / 4);
    const row = 3 * width;
    for (let y = 0, k = 0; y < height; y += 2)
      for (let x = 0; x < row; x += 6)
        for (let c = 0; c < 3; c++) {
          const at = y * row + x + c;
          small[k++] = (rgb[at] + rgb[at + 3] + rgb[at + row] + rgb[at + row + 3] + 2) >> 2;
        }
    return small;
  }
}
