// What the theme leaves out for those who use a keyboard or have the page read to them.
(() => {
  "use strict";

  // A box that scrolls sideways is reached by the keyboard, and says what it is.
  const reachBoxes = () => {
    document.querySelectorAll(".bd-article .output, .bd-article table, .bd-article pre").forEach((inner) => {
      const box = [inner, inner.parentElement].find(
        (e) => e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(e).overflowX),
      );
      if (!box || box.hasAttribute("tabindex")) return;
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", box.querySelector("table") ? "Table, scrolls sideways" : "Scrolls sideways");
    });
  };

  document.addEventListener("DOMContentLoaded", () => {
    // Entries of the bibliography have a role that a list may not hold.
    document.querySelectorAll(".citation-list > .citation").forEach((entry) => entry.setAttribute("role", "listitem"));
    reachBoxes();
    addEventListener("resize", reachBoxes);
  });
})();
