// The page on which a reader tries a cell: the picture is read, shrunk and classified here, in the browser, and goes
// nowhere. Scripts are loaded when the first picture is given, so that a reader of the text does not wait for them.
"use strict";

/* global tf, wbcCheck, wbcModel */

{
  const MAX_BYTES = 200_000_000;
  const LARGER = 4; // than what the network sees is what is looked at for colours, if the picture is
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const part = (name) => document.getElementById(`wbc-try-${name}`);

  let loading = null;
  let examples = 0;
  let latest = 0;

  function load(name) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = here + name;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${name} could not be loaded.`));
      document.head.append(script);
    });
  }

  // The network: its run, its classes, and a function from 80x60 pixels to five probabilities.
  function network() {
    loading ??= (async () => {
      await Promise.all([load("model.js"), load("check.js"), load("tf-core.es2017.min.js")]);
      await load("tf-backend-cpu.es2017.min.js");
      if (wbcModel.missing) throw new Error(wbcModel.missing);
      await tf.setBackend("cpu"); // of the backends the one that computes in float32 everywhere
      return { ...wbcModel, ask: build(wbcModel) };
    })();
    return loading;
  }

  function bytesOf(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  // Weights come in pairs of kernel and bias: with four dimensions a convolution, with two a dense layer.
  function build({ shape, factor, offset, shapes, weights }) {
    const values = new Float32Array(bytesOf(weights).buffer);
    let at = 0;
    const tensors = shapes.map((s) => tf.tensor(values.subarray(at, (at += s.reduce((a, b) => a * b))), s));
    const apply = (pixels) => {
      let x = tf.tensor(Float32Array.from(pixels), [1, ...shape, 3]);
      x = tf.add(tf.mul(x, tf.tensor(factor)), tf.tensor(offset));
      for (let i = 0; i < tensors.length; i += 2) {
        const [kernel, bias] = tensors.slice(i, i + 2);
        if (kernel.rank === 4) {
          x = tf.maxPool(tf.relu(tf.add(tf.conv2d(x, kernel, 1, "valid"), bias)), 2, 2, "valid");
        } else {
          x = tf.add(tf.matMul(tf.reshape(x, [1, -1]), kernel), bias);
          if (i + 2 < tensors.length) x = tf.relu(x); // the last layer gives logits
        }
      }
      return x.dataSync();
    };
    return (pixels) => {
      const logits = Array.from(tf.tidy(() => apply(pixels)));
      const highest = Math.max(...logits);
      const powers = logits.map((logit) => Math.exp(logit - highest));
      const total = powers.reduce((a, b) => a + b);
      return powers.map((power) => power / total);
    };
  }

  // A file as the network sees it, RGB of 80x60 pixels, and larger, as its colours are looked at.
  async function readPicture(file, [rows, columns]) {
    if (file.size > MAX_BYTES) throw new Error("is too large for a picture of a cell");
    let bitmap;
    try {
      bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
    } catch {
      throw new Error("is no picture that this browser can read; give a JPEG or PNG file");
    }
    try {
      const { width, height } = middle(bitmap, rows, columns);
      const times = Math.max(1, Math.min(LARGER, Math.floor(width / columns), Math.floor(height / rows)));
      const size = [times * rows, times * columns];
      return { pixels: shrink(bitmap, rows, columns), larger: shrink(bitmap, ...size), size };
    } finally {
      bitmap.close();
    }
  }

  // The middle of a picture in the network's proportions.
  function middle(bitmap, rows, columns) {
    const width = Math.min(bitmap.width, Math.floor((bitmap.height * columns) / rows));
    const height = Math.min(bitmap.height, Math.floor((bitmap.width * rows) / columns));
    const [left, top] = [bitmap.width - width, bitmap.height - height].map((rest) => Math.floor(rest / 2));
    return { width, height, left, top };
  }

  // The middle of a picture, each pixel the mean of the area that it covers.
  function shrink(bitmap, rows, columns) {
    const { width, height, left, top } = middle(bitmap, rows, columns);
    if (width < columns || height < rows) {
      const size = `${bitmap.width}x${bitmap.height}`;
      throw new Error(`is smaller (${size}) than what the network looks at, ${columns}x${rows}`);
    }
    const across = spans(width, columns), down = spans(height, rows);
    // Strip by strip: a whole photo may be larger than a phone lets a canvas be.
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = Math.ceil(height / rows) + 1;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const out = new Uint8Array(3 * rows * columns);
    down.forEach(({ first, shares: lines }, y) => {
      context.clearRect(0, 0, width, canvas.height);
      context.drawImage(bitmap, left, top + first, width, lines.length, 0, 0, width, lines.length);
      const { data } = context.getImageData(0, 0, width, lines.length);
      across.forEach(({ first: start, shares }, x) => {
        const sums = [0, 0, 0];
        lines.forEach((line, i) =>
          shares.forEach((share, j) => {
            for (let c = 0; c < 3; c++) sums[c] += line * share * data[4 * (i * width + start + j) + c];
          }),
        );
        sums.forEach((sum, c) => (out[3 * (y * columns + x) + c] = Math.round(sum)));
      });
    });
    return out;
  }

  // Which of `from` pixels each of `to` takes in, and the share of each; shares sum to one.
  function spans(from, to) {
    const step = from / to;
    return Array.from({ length: to }, (_, k) => {
      const start = k * step, end = Math.min(from, start + step), first = Math.floor(start + 1e-9);
      const shares = [];
      for (let i = first; i < end - 1e-9; i++) shares.push((Math.min(end, i + 1) - Math.max(start, i)) / step);
      return { first, shares };
    });
  }

  function paint(pixels, [rows, columns]) {
    const canvas = part("seen");
    canvas.width = columns;
    canvas.height = rows;
    const image = new ImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  const percent = (share) => `${(100 * share).toFixed(1)}%`;

  function showAnswer(name, probabilities, { classes, threshold, accuracy }) {
    const likeliest = probabilities.indexOf(Math.max(...probabilities));
    const cell = classes.find(({ label }) => label === likeliest);
    const highest = probabilities[likeliest];
    const abstains = !cell || highest < threshold;
    part("bars").replaceChildren(
      ...classes.map(({ name: title, label, colour }) => {
        const row = document.createElement("div"), track = document.createElement("span");
        const bar = document.createElement("span"), words = document.createElement("span");
        const share = document.createElement("span");
        [words.textContent, share.textContent] = [title, percent(probabilities[label])];
        bar.style.width = percent(probabilities[label]);
        bar.style.background = colour;
        track.className = "wbc-bar-track";
        track.setAttribute("aria-hidden", "true");
        track.append(bar);
        row.className = "wbc-bar";
        row.setAttribute("role", "listitem");
        row.append(words, track, share);
        return row;
      }),
    );
    const share = `${Math.round(100 * accuracy)}%`;
    const rule = `${percent(threshold)}, at or above which ${share} of its validation images are right`;
    const title = cell ? cell.name : "None of the four";
    const answer = document.createElement("strong");
    answer.textContent = `${title}, ${percent(highest)}.`;
    const doubt =
      threshold > 1 ? " It would rather abstain, as it always would: it was trained too briefly."
      : abstains ? ` It would rather abstain: its answer is less sure than ${rule}.`
      : ` It does not abstain: its answer is at least as sure as ${rule}.`;
    part("answer").replaceChildren(`${name}: `, answer, doubt);
  }

  // Why the network is not asked, and a button for those who want to see what it would say.
  function showRefusal(name, reason, answer) {
    const no = document.createElement("strong"), button = document.createElement("button");
    no.textContent = "No answer. ";
    button.textContent = "Show what it would say";
    button.className = "wbc-press";
    button.type = "button";
    button.addEventListener("click", answer);
    const worth = "What it says of such pictures is worth nothing.";
    part("answer").replaceChildren(`${name}: `, no, `${reason} ${worth} `, button);
    part("result").hidden = true;
  }

  // Classifies one file and shows the answer; of several given in quick succession the last one stays.
  async function show(file, name, isDrawn = false) {
    const turn = ++latest;
    part("answer").textContent = `Looking at ${name} …`;
    try {
      const model = await network();
      const { pixels, larger, size } = await readPicture(file, model.shape);
      if (turn !== latest) return;
      const answer = () => {
        paint(pixels, model.shape);
        showAnswer(name, model.ask(pixels), model);
        part("result").hidden = false;
      };
      const { guard } = model;
      const reason = guard && !isDrawn ? wbcCheck.objection(wbcCheck.look(larger, size[1], size[0], guard), guard) : "";
      if (reason) showRefusal(name, reason, answer);
      else answer();
    } catch (error) {
      if (turn !== latest) return;
      part("result").hidden = true;
      part("answer").textContent = error.message.startsWith("is ") ? `${name} ${error.message}.` : error.message;
    }
  }

  async function showExample() {
    try {
      const { examples: drawn } = await network();
      const { name, jpeg } = drawn[examples++ % drawn.length];
      await show(new Blob([bytesOf(jpeg)]), `A drawn ${name.toLowerCase()}`, true);
    } catch (error) {
      part("answer").textContent = error.message;
    }
  }

  function start() {
    const zone = part("zone"), picker = part("file");
    picker.addEventListener("change", () => {
      if (picker.files.length) show(picker.files[0], picker.files[0].name);
      picker.value = ""; // so that the same file can be given again
    });
    part("example").addEventListener("click", showExample);
    for (const kind of ["dragover", "dragleave", "drop"])
      zone.addEventListener(kind, (event) => {
        event.preventDefault();
        zone.classList.toggle("is-over", kind === "dragover");
      });
    zone.addEventListener("drop", ({ dataTransfer: { files } }) => {
      if (files.length) show(files[0], files[0].name);
      else part("answer").textContent = "What was dropped is no file; save the picture first.";
    });
    // A picture dropped beside the zone would take the reader away from the page.
    for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
    part("page").hidden = false;
  }

  // For check.js and for tests.
  globalThis.wbcTry = { network, readPicture, spans };
  start();
}
