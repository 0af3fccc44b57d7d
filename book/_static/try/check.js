// Whether a picture is like what the network learned from, by the colours around its largest nucleus: the same steps
// and numbers as in wbc_lib.data.windows and wbc_lib.prediction.refusal. Pixels are RGB, row by row.
"use strict";

/* global wbcTry */

globalThis.wbcCheck = (() => {
  const CONTRAST = 15, BLACK = 12, SMALLEST = 0.5, GAP = 0.2;

  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const product = (some, others) => some.reduce((sum, value, i) => sum + value * others[i], 0);

  function quantile(values, share) {
    const sorted = Float64Array.from(values).sort();
    const at = share * (sorted.length - 1), low = Math.floor(at), high = Math.ceil(at);
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
  }

  function channel(pixels, c) {
    return Float64Array.from({ length: pixels.length / 3 }, (_, i) => pixels[3 * i + c]);
  }

  function blur(values, width, height, sd) {
    const reach = Math.floor(Math.round(6 * sd + 1) / 2);
    const kernel = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-((i - reach) ** 2) / (2 * sd ** 2)));
    const total = kernel.reduce((a, b) => a + b);
    const mirror = (i, n) => (i < 0 ? -i : i >= n ? 2 * n - 2 - i : i);
    const along = (from, n, step) =>
      from.map((_, at) => {
        const i = Math.floor(at / step) % n;
        return kernel.reduce((sum, k, j) => sum + k * from[at + (mirror(i + j - reach, n) - i) * step], 0) / total;
      });
    return along(along(values, width, 1), height, width).map(Math.round);
  }

  // Otsu's threshold of whole numbers.
  function otsu(values) {
    const lowest = values.reduce((a, b) => Math.min(a, b), Infinity);
    const counts = new Float64Array(values.reduce((a, b) => Math.max(a, b), -Infinity) - lowest + 1);
    for (const value of values) counts[value - lowest]++;
    const sum = counts.reduce((total, n, level) => total + n * level, 0), all = values.length;
    let [best, most, below, part] = [0, -1, 0, 0];
    counts.forEach((n, level) => {
      below += n;
      part += n * level;
      const between = ((sum * below) / all - part) ** 2 / (below * (all - below));
      if (between > most) [best, most] = [level, between];
    });
    return lowest + best;
  }

  // Numbers of the parts of a mask that hang together, 0 outside; corners join if `diagonal`.
  function label(mask, width, height, diagonal) {
    const labels = new Int32Array(mask.length);
    let number = 0;
    for (let start = 0; start < mask.length; start++) {
      if (!mask[start] || labels[start]) continue;
      labels[start] = ++number;
      const waiting = [start];
      while (waiting.length) {
        const at = waiting.pop(), x = at % width, y = Math.floor(at / width);
        for (let dy = -1; dy <= 1; dy++)
          for (let dx = -1; dx <= 1; dx++) {
            const [u, v] = [x + dx, y + dy];
            if ((!diagonal && dx && dy) || u < 0 || v < 0 || u >= width || v >= height) continue;
            const next = v * width + u;
            if (mask[next] && !labels[next]) {
              labels[next] = number;
              waiting.push(next);
            }
          }
      }
    }
    return labels;
  }

  // Each marked pixel marks those around it, as far to each side as `reach` tells by the row.
  function dilate(mask, width, height, reach) {
    const out = new Uint8Array(mask.length), rows = (reach.length - 1) / 2;
    mask.forEach((marked, at) => {
      if (!marked) return;
      const x = at % width, y = Math.floor(at / width);
      for (let dy = -rows; dy <= rows; dy++) {
        if (y + dy < 0 || y + dy >= height) continue;
        const side = reach[dy + rows], start = (y + dy) * width;
        out.fill(1, start + Math.max(0, x - side), start + Math.min(width, x + side + 1));
      }
    });
    return out;
  }

  // Black corners of a picture that was turned, and a pixel more.
  function findOutside(pixels, width, height) {
    const black = Uint8Array.from({ length: width * height }, (_, i) => {
      return pixels[3 * i] <= BLACK && pixels[3 * i + 1] <= BLACK && pixels[3 * i + 2] <= BLACK;
    });
    const labels = label(black, width, height, false), edges = new Set();
    labels.forEach((number, at) => {
      const x = at % width, y = Math.floor(at / width);
      if (number && (!x || !y || x === width - 1 || y === height - 1)) edges.add(number);
    });
    return dilate(labels.map((number) => edges.has(number)), width, height, [1, 1, 1]);
  }

  // The middle of the largest nucleus and its area, or null.
  function findNucleus(pixels, width, height, redCell, outside) {
    const [green, blue] = [1, 2].map((c) => blur(channel(pixels, c), width, height, Math.max(redCell / 30, 0.5)));
    const violet = blue.map((value, i) => value - green[i]);
    const seen = violet.filter((_, i) => !outside[i]);
    if (!seen.length) return null;
    const usual = quantile(seen, 0.5), highest = seen.reduce((a, b) => Math.max(a, b));
    const threshold = Math.max(otsu(seen), (usual + highest) / 2, usual + CONTRAST);
    const mask = Uint8Array.from(violet, (value) => value > threshold);
    const radius = Math.max(1, Math.ceil((GAP * redCell) / 2 - 0.5)); // half down, as Python rounds 4.5
    const reach = Array.from({ length: 2 * radius + 1 }, (_, i) =>
      Math.round(Math.sqrt(radius ** 2 - (i - radius) ** 2)),
    );
    const labels = label(dilate(mask, width, height, reach), width, height, true);
    const parts = new Map();
    labels.forEach((number, at) => {
      if (!mask[at]) return;
      const part = parts.get(number) ?? { area: 0, x: 0, y: 0 };
      parts.set(number, part);
      part.area++;
      part.x += at % width;
      part.y += Math.floor(at / width);
    });
    const [largest] = [...parts.values()].sort((a, b) => b.area - a.area);
    if (!largest || largest.area < (Math.PI / 4) * (SMALLEST * redCell) ** 2) return null;
    const { area, x, y } = largest;
    return { x: x / area, y: y / area, diameter: Math.sqrt((4 * area) / Math.PI) / redCell };
  }

  function backgroundColour(pixels, width, height, outside) {
    const step = Math.max(1, Math.floor(Math.min(width, height) / 100)), every = [], inside = [];
    for (let y = 0; y < height; y += step)
      for (let x = 0; x < width; x += step) {
        every.push(y * width + x);
        if (!outside[y * width + x]) inside.push(y * width + x);
      }
    const some = inside.length ? inside : every, green = some.map((at) => pixels[3 * at + 1]);
    const threshold = otsu(green), bright = some.filter((_, i) => green[i] > threshold);
    const told = bright.length ? bright : some;
    return [0, 1, 2].map((c) => Math.floor(quantile(told.map((at) => pixels[3 * at + c]), 0.5)));
  }

  // A square of so many pixels around a place, brought to `size`; outside is the background's colour.
  function cutWindow(pixels, width, height, { x, y }, side, size, outside) {
    const ground = backgroundColour(pixels, width, height, outside);
    const [left, top] = [x, y].map((middle) => Math.round(middle + 0.5 - side / 2));
    const at = (u, v, c) => {
      const place = v * width + u;
      const isIn = u >= 0 && v >= 0 && u < width && v < height && !outside[place];
      return isIn ? pixels[3 * place + c] : ground[c];
    };
    const spans = wbcTry.spans(side, size), out = [];
    for (const down of spans)
      for (const across of spans)
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          down.shares.forEach((line, i) =>
            across.shares.forEach((share, j) => {
              sum += line * share * at(left + across.first + j, top + down.first + i, c);
            }),
          );
          out.push(Math.round(sum));
        }
    return out;
  }

  // From sRGB to CIE Lab (1976, D65).
  function toLab(rgb) {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    const x = (0.412453 * r + 0.35758 * g + 0.180423 * b) / 0.950456;
    const y = 0.212671 * r + 0.71516 * g + 0.072169 * b;
    const z = (0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.088754;
    const [fx, fy, fz] = [x, y, z].map((t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116));
    return [y > 0.008856 ? 116 * fy - 16 : 903.3 * y, 500 * (fx - fy), 200 * (fy - fz)];
  }

  // Mean, standard deviation, 10th and 90th percentile of L, of a, and of b.
  function colourNumbers(window) {
    const lab = Array.from({ length: window.length / 3 }, (_, i) => toLab(window.slice(3 * i, 3 * i + 3)));
    return [0, 1, 2].flatMap((c) => {
      const values = lab.map((colour) => colour[c]), middle = mean(values);
      const sd = Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
      return [middle, sd, quantile(values, 0.1), quantile(values, 0.9)];
    });
  }

  // How unlike colour numbers are to each kind of pictures that was learned from: the least; above 1 is refused.
  function unlike(numbers, { references }) {
    const scores = references.map(({ centre, spread, precision, threshold }) => {
      const z = numbers.map((value, i) => (value - centre[i]) / spread[i]);
      return Math.sqrt(product(z, precision.map((row) => product(row, z)))) / threshold;
    });
    return Math.min(...scores);
  }

  // What is measured of a picture: the nucleus, its colour numbers, and how unlike they are; null without a nucleus.
  function look(pixels, width, height, guard) {
    const redCell = width / guard.across, outside = findOutside(pixels, width, height);
    const nucleus = findNucleus(pixels, width, height, redCell, outside);
    if (!nucleus) return null;
    const side = Math.max(1, Math.round(guard.field * redCell));
    const numbers = colourNumbers(cutWindow(pixels, width, height, nucleus, side, guard.side, outside));
    return { nucleus, numbers, unlike: unlike(numbers, guard) };
  }

  // Why a picture is not answered, as a sentence; "" if it is.
  function objection(seen, guard) {
    if (!seen) return "No white cell was found in it: nothing is stained as a nucleus and as large as one.";
    if (seen.unlike > 1) {
      const off = `${seen.unlike.toFixed(1)} times as far off as is let through`;
      return `Its colours are not those of the smears that the network learned from: ${off}.`;
    }
    const [smallest, largest] = guard.nucleus, size = seen.nucleus.diameter;
    if (size >= smallest && size <= largest) return "";
    const told = `If it is about seven red cells wide, its nucleus is ${size.toFixed(1)} times as wide as a red cell`;
    return `${told}, and the network learned from ${smallest.toFixed(1)} to ${largest.toFixed(1)}.`;
  }

  return { look, objection };
})();
