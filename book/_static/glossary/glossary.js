// A term's definition beside it, while it is pointed at or has the focus; a tap shows it before it follows the link.
(() => {
  "use strict";
  document.addEventListener("DOMContentLoaded", () => {
    const tip = document.createElement("div");
    tip.id = "wbc-definition";
    tip.setAttribute("role", "tooltip");
    tip.hidden = true;
    document.body.append(tip);
    let shown = null;

    const hide = () => {
      if (shown) shown.removeAttribute("aria-describedby");
      tip.hidden = true;
      shown = null;
    };

    const show = (term) => {
      if (shown === term) return;
      hide();
      tip.textContent = term.dataset.definition;
      tip.hidden = false;
      term.setAttribute("aria-describedby", tip.id);
      shown = term;
      const at = term.getClientRects()[0];
      const room = document.documentElement.clientWidth;
      const below = at.bottom + tip.offsetHeight + 12 < innerHeight;
      tip.style.left = `${Math.max(8, Math.min(at.left, room - tip.offsetWidth - 8))}px`;
      tip.style.top = `${below ? at.bottom + 4 : at.top - tip.offsetHeight - 4}px`;
    };

    document.querySelectorAll("a.wbc-term").forEach((term) => {
      term.dataset.definition = term.title;
      term.removeAttribute("title");
      let touched = false;
      term.addEventListener("pointerdown", (event) => (touched = event.pointerType === "touch" && shown !== term));
      term.addEventListener("click", (event) => {
        if (touched) event.preventDefault();
        touched = false;
        show(term);
      });
      term.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && show(term));
      term.addEventListener("focus", () => show(term));
      term.addEventListener("blur", hide);
      term.addEventListener("pointerleave", (event) => {
        const stays = event.relatedTarget === tip || document.activeElement === term;
        if (event.pointerType === "mouse" && !stays) hide();
      });
    });
    tip.addEventListener("pointerleave", () => document.activeElement === shown || hide());
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
    document.addEventListener("scroll", hide, { passive: true, capture: true });
  });
})();
