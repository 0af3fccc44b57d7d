/* Filters the tiles of the gallery and opens them. What is known of each photo is written by wbc_lib/gallery.py. */
"use strict";

(() => {
  const make = (name, content = "", attributes = {}) => {
    const element = document.createElement(name);
    element.textContent = content;
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return element;
  };
  const percent = (share) => `${(100 * share).toFixed(1)}%`;

  const makeMenu = (bar, label, names, act) => {
    const select = make("select");
    names.forEach((name) => select.add(new Option(name)));
    select.addEventListener("change", act);
    const whole = make("label", `${label} `);
    whole.append(select);
    bar.append(whole);
    return select;
  };

  const start = (gallery) => {
    const known = JSON.parse(gallery.querySelector("script").textContent);
    const tiles = [...gallery.querySelectorAll("li")];
    const bar = gallery.querySelector(".wbc-controls");
    const update = () => refresh();
    const cell = makeMenu(bar, "Class", ["all", ...known.outputs.slice(1)], update);
    const outcome = makeMenu(bar, "Prediction", ["all", "right", "wrong"], update);
    const model = makeMenu(bar, "Model", Object.keys(known.models), update);
    const count = make("output", "", { "aria-live": "polite" });
    bar.append(count);

    const judge = (photo) => {
      const said = known.models[model.value].photos[photo];
      const shares = said.slice(0, known.outputs.length);
      const name = known.outputs[shares.indexOf(Math.max(...shares))];
      return { shares, name, right: name === known.photos[photo].cell, copies: said[known.outputs.length] };
    };

    const shown = () => tiles.filter((tile) => !tile.hidden);

    const refresh = () => {
      tiles.forEach((tile) => {
        const photo = tile.dataset.photo;
        const facts = known.photos[photo];
        const found = judge(photo);
        const fits = outcome.value === "all" || (outcome.value === "right") === found.right;
        tile.hidden = !fits || (cell.value !== "all" && cell.value !== facts.cell);
        tile.querySelector(".wbc-gallery-said").textContent = found.right ? "✓ right" : `✗ taken for ${found.name.toLowerCase()}`;
        const picture = tile.querySelector("img");
        if (picture) picture.alt = `Photo ${photo}: ${facts.cell}. ${model.value}: ${found.name}.`;
      });
      count.textContent = `${shown().length} of ${tiles.length} photos shown`;
    };

    // The opened photo -------------------------------------------------------------------------------------------
    const dialog = make("dialog", "", { "aria-labelledby": "wbc-gallery-title" });
    gallery.append(dialog);
    let open = null;
    const layers = { box: true, map: false };

    const drawMap = (values) => {
      const [width, height] = known.grid;
      const canvas = make("canvas", "", { width, height, "aria-hidden": "true" });
      const context = canvas.getContext("2d");
      const pixels = context.createImageData(width, height);
      // A black veil, thin where there is attention, as in the chapter on it.
      values.forEach((value, i) => pixels.data.set([0, 0, 0, 1.66 * (100 - value)], 4 * i));
      context.putImageData(pixels, 0, 0);
      return canvas;
    };

    const showLayers = () => {
      dialog.querySelectorAll("canvas, .wbc-gallery-map").forEach((layer) => { layer.hidden = !layers.map; });
      dialog.querySelectorAll("i").forEach((layer) => { layer.hidden = !layers.box; });
    };

    const makeSwitch = (layer, label) => {
      const whole = make("label");
      const box = make("input", "", { type: "checkbox" });
      box.checked = layers[layer];
      box.addEventListener("change", () => { layers[layer] = box.checked; showLayers(); });
      whole.append(box, label);
      return whole;
    };

    const show = (tile, focus = "") => {
      open = tile;
      const photo = tile.dataset.photo;
      const facts = known.photos[photo];
      const found = judge(photo);
      const body = make("div", "", { class: "wbc-gallery-body" });
      const source = tile.querySelector("img");
      if (source) {
        const picture = make("div", "", { class: "wbc-gallery-picture" });
        const image = make("img", "", { src: source.src, alt: source.alt });
        picture.append(image);
        if (facts.map) picture.append(drawMap(facts.map.values));
        (facts.box || []).forEach(([left, top, width, height]) => {
          picture.append(make("i", "", { style: `left:${left}%;top:${top}%;width:${width}%;height:${height}%` }));
        });
        body.append(picture);
      }
      const told = make("div", "", { class: "wbc-gallery-facts" });
      const { runs } = known.models[model.value];
      told.append(make("p", `${model.value}: ${found.right ? "right" : `takes it for ${found.name.toLowerCase()}`}. ` +
        `Of ${facts.copies} augmented copies${runs > 1 ? `, each shown to ${runs} networks (seeds),` : ""} ` +
        `${percent(found.copies)} are told right; the bars are mean probabilities.`));
      known.outputs.forEach((name, i) => {
        if (i === 0 && found.shares[0] < 0.0005) return;
        const row = make("div", "", { class: "wbc-bar" });
        const track = make("span", "", { class: "wbc-bar-track" });
        track.append(make("b", "", { style: `width:${100 * found.shares[i]}%;background:${known.colours[name] || "#666"}` }));
        row.append(make("span", name), track, make("span", percent(found.shares[i])));
        told.append(row);
      });
      if (source && facts.map) {
        const { title, seed, epochs } = known.mapped;
        const other = model.value === title ? "" : " Of other models no weights come with this book.";
        told.append(make("p", `Bright: what speaks for ${facts.map.said.toLowerCase()} to one network (${title}, ` +
          `seed ${seed}, ${epochs} epochs), shown this photo as it was taken.${other}`, { class: "wbc-gallery-map" }));
      }
      const acts = make("div", "", { class: "wbc-gallery-acts" });
      if (source && facts.box) acts.append(makeSwitch("box", "the labelled cell"));
      if (source && facts.map) acts.append(makeSwitch("map", "where the final model looks"));
      [["Previous", -1], ["Next", 1]].forEach(([label, step]) => {
        const button = make("button", label, { type: "button", class: "wbc-press", "data-name": label });
        button.addEventListener("click", () => move(step, label));
        acts.append(button);
      });
      const close = make("button", "Close", { type: "button", class: "wbc-press" });
      close.addEventListener("click", () => dialog.close());
      acts.append(close);
      body.append(told);
      dialog.replaceChildren(make("h2", `Photo ${photo}: ${facts.cell}`, { id: "wbc-gallery-title" }), body, acts);
      showLayers();
      if (!dialog.open) dialog.showModal();
      const wanted = focus && dialog.querySelector(`[data-name="${focus}"]`);
      (wanted || close).focus();
    };

    const move = (step, focus = "") => {
      const all = shown();
      show(all[(all.indexOf(open) + step + all.length) % all.length], focus);
    };

    dialog.addEventListener("keydown", (event) => {
      if (event.target.type === "checkbox") return;
      if (event.key === "ArrowRight") move(1, "Next");
      if (event.key === "ArrowLeft") move(-1, "Previous");
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("close", () => open && open.querySelector("button").focus());
    tiles.forEach((tile) => tile.querySelector("button").addEventListener("click", () => show(tile)));
    refresh();
  };

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".wbc-gallery").forEach((gallery) => {
    if (gallery.querySelector("script")) start(gallery);
  }));
})();
