/* Filters the tiles of the gallery and opens them. What is known of each photo is written by wbc_lib/book/gallery.py. */
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
    const names = Object.keys(known.outputs), tiles = [...gallery.querySelectorAll("li")];
    const [cell, answer, model] = gallery.querySelectorAll("select");
    const dialog = gallery.querySelector("dialog"), body = dialog.querySelector(".wbc-gallery-body");

    const judge = (photo) => {
      const said = known.models[model.value][photo], shares = said.slice(0, names.length);
      const name = names[shares.indexOf(Math.max(...shares))];
      return { shares, copies: said.at(-1), right: name === known.photos[photo].cell, name: name.toLowerCase() };
    };

    const refresh = () => {
      tiles.forEach((tile) => {
        const photo = tile.dataset.photo, truth = known.photos[photo].cell, found = judge(photo);
        const fits = answer.value === "all" || (answer.value === "right") === found.right;
        tile.hidden = !fits || (cell.value !== "all" && cell.value !== truth);
        tile.querySelector("button > span:last-child").textContent = found.right ? "✓ right" : `✗ taken for ${found.name}`;
      });
      gallery.querySelector("output").textContent = `${tiles.filter((tile) => !tile.hidden).length} of ${tiles.length} photos shown`;
    };

    const show = (tile) => {
      const photo = tile.dataset.photo, { cell: truth, copies } = known.photos[photo], found = judge(photo);
      const picture = tile.querySelector(".wbc-gallery-picture"), facts = make("div");
      dialog.querySelector("h2").textContent = `Photo ${photo}: ${truth}`;
      facts.append(make("p", `${model.value}: ${found.right ? "right" : `takes it for ${found.name}`}. ` +
        `${percent(found.copies)} of its ${copies} copies are told right. The bars are mean probabilities.`));
      names.forEach((name, i) => {
        if (i === 0 && found.shares[0] < 0.0005) return; // the output that is no class
        const row = make("div"), track = make("span");
        [row.className, track.className] = ["wbc-bar", "wbc-bar-track"];
        track.append(make("b", "", `width:${100 * found.shares[i]}%;background:${known.outputs[name]}`));
        row.append(make("span", name), track, make("span", percent(found.shares[i])));
        facts.append(row);
      });
      body.replaceChildren(...(picture ? [picture.cloneNode(true)] : []), facts);
      dialog.showModal();
    };

    tiles.forEach((tile) => tile.querySelector("button").addEventListener("click", () => show(tile)));
    gallery.querySelector(".wbc-controls").hidden = false;
    gallery.addEventListener("change", refresh);
    refresh();
  };

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll(".wbc-gallery:has(script)").forEach(start));
})();
