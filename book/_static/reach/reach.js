// What the theme leaves out for those who use a keyboard or have the page read to them.
(() => {
  "use strict";

  // What a box is called: the figure or table by its number, or else by its place on the page.
  const unnumbered = { "Unnumbered table": 0, "Code block": 0, Output: 0 };
  const nameBox = (box) => {
    const figure = box.closest("figure, table");
    const number = figure && figure.querySelector(".caption-number");
    if (number) return number.textContent.trim();
    const holds = (what) => box.matches(what) || box.querySelector(what);
    const kind = holds("table") ? "Unnumbered table" : holds("pre") ? "Code block" : "Output";
    unnumbered[kind] += 1;
    return `${kind} ${unnumbered[kind]}`;
  };

  // A box that scrolls sideways is reached by the keyboard, and says what it is.
  const reachBoxes = () => {
    document.querySelectorAll(".bd-article .output, .bd-article table, .bd-article pre").forEach((inner) => {
      const box = [inner, inner.parentElement].find(
        (e) => e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX),
      );
      if (!box || box.hasAttribute("tabindex")) return;
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", `${nameBox(box)}, scrolls sideways`);
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    // Entries of the bibliography have a role that a list may not hold.
    document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
    // The corner of a table is no heading.
    document.querySelectorAll(".bd-article th").forEach((cell) => {
      if (cell.textContent.trim() || cell.querySelector("img, input, button")) return;
      const plain = document.createElement("td");
      [...cell.attributes].forEach(({ name, value }) => plain.setAttribute(name, value));
      cell.replaceWith(plain);
    });
    reachBoxes();
    addEventListener("resize", reachBoxes);
  });
})();
