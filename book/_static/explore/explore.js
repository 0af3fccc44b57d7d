/* Draws the curves of "Look at the results", and lets a menu pick a matrix. What there is to draw is written by
   wbc_lib/figures/interactive.py. Plotly is fetched once a figure comes near, for it is larger than the page. */
"use strict";

(() => {
  const library = new URL("plotly-basic.min.js", document.currentScript.src);

  // An entry of the legend answers to the keyboard as to the mouse.
  const openLegend = (plot) => {
    for (const toggle of plot.querySelectorAll(".legendtoggle:not([tabindex])")) {
      const name = `Show or hide ${toggle.parentNode.textContent.trim()}`;
      Object.entries({ tabindex: "0", role: "button", "aria-label": name }).forEach((pair) => toggle.setAttribute(...pair));
      toggle.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        for (const kind of ["mousedown", "mouseup"]) toggle.dispatchEvent(new MouseEvent(kind, { bubbles: true }));
      });
    }
  };

  const draw = async (box) => {
    const { data, layout } = JSON.parse(box.querySelector("script").textContent);
    const live = box.querySelector(".wbc-plot-live"), plot = document.createElement("div");
    live.append(plot);
    live.hidden = false;
    if (box.clientWidth < 600) layout.height = layout.meta.narrow_height;
    // Nothing here moves by itself: every change is drawn at once, whatever prefers-reduced-motion says.
    await Plotly.newPlot(plot, data, layout, { displayModeBar: false });
    box.classList.add("is-live");
    openLegend(plot);
    plot.on("plotly_afterplot", () => openLegend(plot));
    // The dark theme leaves a figure less room.
    new ResizeObserver(() => Plotly.relayout(plot, { width: live.clientWidth })).observe(live);
  };

  const drawOnceNear = (box) => {
    const watch = new IntersectionObserver((seen) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      const script = document.createElement("script");
      script.src = library;
      script.addEventListener("load", () => draw(box)); // else the still picture stays
      document.head.append(script);
    }, { rootMargin: "600px" });
    watch.observe(box);
  };

  const letChoose = (box) => {
    const select = box.querySelector("select"), tables = [...box.querySelectorAll("table")];
    const show = () => tables.forEach((table, i) => { table.hidden = i !== select.selectedIndex; });
    select.addEventListener("change", show);
    box.querySelector(".wbc-controls").hidden = false;
    show(); // a browser may remember what was chosen
  };

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".wbc-plot").forEach(drawOnceNear);
    document.querySelectorAll(".wbc-choice").forEach(letChoose);
  });
})();
