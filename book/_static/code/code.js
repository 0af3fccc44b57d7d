// One switch in a page's head for all of its folded code. It remembers nothing: every page begins folded.
(() => {
  "use strict";
  document.addEventListener("DOMContentLoaded", () => {
    const folds = [...document.querySelectorAll(".bd-article .cell details.hide")];
    const bar = document.querySelector(".article-header-buttons");
    if (!folds.length || !bar) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn btn-sm wbc-code";
    button.title = "Show all code of this page, or fold it";
    button.textContent = "All code";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const isShown = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(isShown));
      document.documentElement.classList.toggle("wbc-all-code", isShown);
      folds.forEach((fold) => { fold.open = isShown; });
    });
    bar.prepend(button);
  });
})();
