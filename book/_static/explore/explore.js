/* Draws the figures of "Explore the results" in the colours of the theme, and lets their controls act.
   What there is to draw, and what each position of a control changes, is written by wbc_lib/interactive.py. */
"use strict";

(() => {
  const NARROW = 600;
  const redraws = [];

  const put = (target, path, value) => {
    const steps = path.split(".");
    const last = steps.pop();
    steps.reduce((part, step) => part[step], target)[last] = value;
  };

  // The colours that a theme has of its own take the place of those that stand for them.
  const dress = (part, colours) => {
    for (const [key, value] of Object.entries(part)) {
      if (value && typeof value === "object") dress(value, colours);
      else if (Object.hasOwn(colours, value)) part[key] = colours[value];
    }
  };

  const themeColours = (names, box) => {
    const style = getComputedStyle(box);
    const of = (variable) => style.getPropertyValue(variable).trim() || style.color;
    return {
      [names.ink]: of("--pst-color-text-base"),
      [names.lines]: of("--pst-color-border"),
      [names.background]: of("--pst-color-background"),
      [names.muted]: of("--pst-color-text-muted"),
    };
  };

  const makeControl = (control, state, number, redraw) => {
    const label = document.createElement("label");
    const input = document.createElement(control.is_slider ? "input" : "select");
    label.append(control.label, " ", input);
    if (!control.is_slider) {
      control.choices.forEach((choice, i) => input.add(new Option(choice.name, i)));
      input.value = control.start;
      input.addEventListener("change", () => { state[number] = Number(input.value); redraw(); });
      return [label];
    }
    const output = document.createElement("output");
    Object.assign(input, { type: "range", min: 0, max: control.choices.length - 1, step: 1, value: control.start });
    const read = () => {
      state[number] = Number(input.value);
      output.textContent = control.choices[state[number]].name;
      input.setAttribute("aria-valuetext", output.textContent);
    };
    input.addEventListener("input", () => { read(); redraw(); });
    read();
    return [label, output];
  };

  // An entry of the legend answers to the keyboard as to the mouse.
  const openLegend = (plot) => {
    for (const toggle of plot.querySelectorAll(".legendtoggle")) {
      if (toggle.hasAttribute("tabindex")) continue;
      toggle.setAttribute("tabindex", "0");
      toggle.setAttribute("role", "button");
      toggle.setAttribute("aria-label", `Show or hide ${toggle.parentNode.textContent.trim()}`);
      toggle.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        for (const kind of ["mousedown", "mouseup"]) toggle.dispatchEvent(new MouseEvent(kind, { bubbles: true }));
      });
    }
  };

  const start = (box) => {
    const content = JSON.parse(box.querySelector("script").textContent);
    const live = box.querySelector(".wbc-plot-live");
    const state = content.controls.map((control) => control.start);
    const plot = document.createElement("div");
    const isFine = matchMedia("(pointer: fine)").matches;
    const config = { displayModeBar: false, displaylogo: false, responsive: true, scrollZoom: false };

    const draw = () => {
      const { data, layout } = structuredClone({ data: content.data, layout: content.layout });
      content.controls.forEach((control, i) => {
        const choice = control.choices[state[i]];
        for (const [key, values] of Object.entries(choice.traces)) values.forEach((value, k) => put(data[k], key, value));
        for (const [path, value] of Object.entries(choice.layout)) put(layout, path, value);
      });
      const colours = themeColours(content.colours, box);
      dress(data, colours);
      dress(layout, colours);
      layout.font.family = getComputedStyle(box).fontFamily;
      layout.dragmode = isFine ? "zoom" : false; // a finger that moves over a figure moves the page
      if (box.clientWidth < NARROW) layout.height = layout.meta.narrow_height;
      // Nothing here moves by itself: every change is drawn at once, whatever prefers-reduced-motion says.
      return Plotly.react(plot, data, layout, config);
    };

    let waiting = 0;
    const redraw = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(draw); };

    const bar = document.createElement("div");
    bar.className = "wbc-controls wbc-plot-controls";
    content.controls.forEach((control, i) => bar.append(...makeControl(control, state, i, redraw)));
    live.append(bar, plot);
    live.hidden = false;
    draw().then(() => {
      box.classList.add("is-live");
      openLegend(plot);
      plot.on("plotly_afterplot", () => openLegend(plot));
    });
    redraws.push(redraw);

    let wasNarrow = box.clientWidth < NARROW;
    new ResizeObserver(() => {
      const isNarrow = box.clientWidth < NARROW;
      if (isNarrow !== wasNarrow) redraw();
      wasNarrow = isNarrow;
    }).observe(box);
  };

  document.addEventListener("DOMContentLoaded", () => {
    if (!globalThis.Plotly) return; // the still pictures stay
    document.querySelectorAll(".wbc-plot").forEach(start);
    new MutationObserver(() => redraws.forEach((redraw) => redraw()))
      .observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  });
})();
