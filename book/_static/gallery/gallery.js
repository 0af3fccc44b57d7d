/* Filters the tiles of the gallery and opens them. What is known of each photo is written by wbc_lib/gallery.py. */
"use strict";

(() => {
  const make = (name, content = "", style = "") => {
    const element = document.createElement(name);
    element.textContent = content;
    element.style.cssText = style;
    return element;
  };
  const percent = (share) => `${(100 * share).toFixed(1)}%`;

  const start = (gallery) => {
    const known = JSON.parse(gallery.querySelector("script").textContent);
    const names = Object.keys(known.outputs);
    const tiles = [...gallery.querySelectorAll("li")];
    const [cell, outcome, model] = gallery.querySelectorAll("select");
    const dialog = gallery.querySelector("dialog");
    const [picture, facts, about, acts] = ["picture", "facts", "map", "acts"].map((n) => dialog.querySelector(`.wbc-gallery-${n}`));
    let open = null;

    const judge = (photo) => {
      const said = known.models[model.value].photos[photo];
      const shares = said.slice(0, names.length);
      const name = names[shares.indexOf(Math.max(...shares))];
      return { shares, copies: said.at(-1), right: name === known.photos[photo].cell, name: name.toLowerCase() };
    };

    const refresh = () => {
      tiles.forEach((tile) => {
        const photo = tile.dataset.photo, truth = known.photos[photo].cell, found = judge(photo);
        const fits = outcome.value === "all" || (outcome.value === "right") === found.right;
        tile.hidden = !fits || (cell.value !== "all" && cell.value !== truth);
        tile.querySelector("span").textContent = found.right ? "✓ right" : `✗ taken for ${found.name}`;
        const image = tile.querySelector("img");
        if (image) image.alt = `Photo ${photo}: ${truth}. ${model.value}: ${found.name}.`;
      });
      gallery.querySelector("output").textContent = `${tiles.filter((tile) => !tile.hidden).length} of ${tiles.length} photos shown`;
    };

    const showLayers = () => {
      dialog.querySelectorAll("i").forEach((layer) => { layer.hidden = !acts.elements[layer.className].checked; });
      about.hidden = !acts.elements.map.checked || !about.textContent;
    };

    const show = (tile) => {
      open = tile;
      const photo = tile.dataset.photo, { cell: truth, copies, boxes, map } = known.photos[photo], found = judge(photo);
      const image = tile.querySelector("img"), { runs } = known.models[model.value];
      dialog.querySelector("h2").textContent = `Photo ${photo}: ${truth}`;
      picture.replaceChildren(...(image ? [image.cloneNode()] : []));
      const lay = (layer, style) => { picture.append(make("i", "", style)); picture.lastChild.className = layer; };
      if (image && map) lay("map", `background-image:url(${map.veil})`);
      if (image) boxes?.forEach(([x, y, w, h]) => lay("box", `left:${x}%;top:${y}%;width:${w}%;height:${h}%`));
      for (const layer of ["box", "map"]) acts.elements[layer].parentNode.hidden = !picture.querySelector(`.${layer}`);
      const other = known.mapped?.startsWith(model.value) ? "" : " Of other models no weights come with this book.";
      about.textContent = map ? `Bright: what speaks for ${map.said} to one network (${known.mapped}), shown this photo as it was taken.${other}` : "";
      facts.replaceChildren(make("p", `${model.value}: ${found.right ? "right" : `takes it for ${found.name}`}. ` +
        `Of ${copies} augmented copies${runs > 1 ? `, each shown to ${runs} networks (seeds),` : ""} ` +
        `${percent(found.copies)} are told right; the bars are mean probabilities.`));
      names.forEach((name, i) => {
        if (i === 0 && found.shares[0] < 0.0005) return;
        const row = make("div"), track = make("span");
        [row.className, track.className] = ["wbc-bar", "wbc-bar-track"];
        track.append(make("b", "", `width:${100 * found.shares[i]}%;background:${known.outputs[name]}`));
        row.append(make("span", name), track, make("span", percent(found.shares[i])));
        facts.append(row);
      });
      showLayers();
      if (!dialog.open) dialog.showModal();
    };

    const move = (step) => {
      const all = tiles.filter((tile) => !tile.hidden);
      show(all[(all.indexOf(open) + step + all.length) % all.length]);
    };

    acts.addEventListener("change", showLayers);
    acts.addEventListener("click", ({ target }) => { if (target.value === "1" || target.value === "-1") move(Number(target.value)); });
    dialog.addEventListener("keydown", ({ key }) => { if (key === "ArrowRight" || key === "ArrowLeft") move(key === "ArrowRight" ? 1 : -1); });
    dialog.addEventListener("close", () => open.querySelector("button").focus());
    tiles.forEach((tile) => tile.querySelector("button").addEventListener("click", () => show(tile)));
    gallery.querySelector(".wbc-controls").hidden = false;
    gallery.addEventListener("change", refresh);
    refresh();
  };

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".wbc-gallery:has(script)").forEach(start));
})();
