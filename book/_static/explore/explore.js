/* Draws the figures of "Explore the results" and lets their controls act.
   What there is to draw, and what each position of a control changes, is written by wbc_lib/interactive.py. */
"use strict";

(() => {
  const makeControl = ({ label: name, choices, start, is_slider: isSlider }, plot) => {
    const label = document.createElement("label"), input = document.createElement(isSlider ? "input" : "select");
    const output = document.createElement("output");
    label.append(name, " ", input);
    if (isSlider) Object.assign(input, { type: "range", min: 0, max: choices.length - 1, step: 1 });
    else choices.forEach((choice, i) => input.add(new Option(choice.name, i)));
    input.value = start;
    const read = () => {
      const choice = choices[Number(input.value)];
      if (!isSlider) return choice;
      output.textContent = choice.name;
      input.setAttribute("aria-valuetext", choice.name);
      return choice;
    };
    input.addEventListener("input", () => { const { traces, layout } = read(); Plotly.update(plot, traces, layout); });
    read();
    return isSlider ? [label, output] : [label];
  };

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

  const start = async (box) => {
    const { data, layout, controls } = JSON.parse(box.querySelector("script").textContent);
    const live = box.querySelector(".wbc-plot-live");
    const bar = document.createElement("div"), plot = document.createElement("div");
    bar.className = "wbc-controls wbc-plot-controls";
    bar.append(...controls.flatMap((control) => makeControl(control, plot)));
    live.append(bar, plot);
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

  document.addEventListener("DOMContentLoaded", () => {
    if (globalThis.Plotly) document.querySelectorAll(".wbc-plot").forEach(start); // else the still pictures stay
  });
})();
