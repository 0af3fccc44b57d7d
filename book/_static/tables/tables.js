// Every table of figures can be had as CSV; a long one is sorted by a click on a column's head.
(() => {
  "use strict";
  const LONG = 8;

  const words = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("details").forEach((e) => e.remove());
    return copy.textContent.replace(/\s+/g, " ").trim();
  };

  // Rows of plain texts; a cell that spans rows or columns is repeated in each.
  const read = (table) => {
    const grid = [];
    [...table.rows].forEach((row, y) => {
      grid[y] = grid[y] || [];
      let x = 0;
      for (const cell of row.cells) {
        while (grid[y][x] !== undefined) x += 1;
        for (let dy = 0; dy < cell.rowSpan; dy += 1) {
          grid[y + dy] = grid[y + dy] || [];
          for (let dx = 0; dx < cell.colSpan; dx += 1) grid[y + dy][x + dx] = words(cell);
        }
        x += cell.colSpan;
      }
    });
    return grid;
  };

  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const asCsv = (table) => read(table).map((row) => row.map(quote).join(",") + "\r\n").join("");

  // The first number of a cell, whatever stands around it; an empty cell and a dash have none.
  const asNumber = (text) => {
    const found = text.replaceAll(",", "").replace("−", "-").match(/-?\d+(\.\d+)?(e-?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  };

  const sort = (table, column, rises) => {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row, at) => ({ row, at, text: words(row.cells[column]) }));
    const known = rows.filter((r) => r.text !== "" && r.text !== "–");
    const numeric = known.every((r) => /^[<>≥≤~±+−-]?\s*[\d.]/.test(r.text));
    const compare = numeric
      ? (a, b) => asNumber(a.text) - asNumber(b.text)
      : (a, b) => a.text.localeCompare(b.text, "en", { numeric: true });
    const sign = rises ? 1 : -1;
    rows.sort((a, b) => {
      const missing = (r) => r.text === "" || r.text === "–";
      if (missing(a) || missing(b)) return missing(a) - missing(b) || a.at - b.at;
      return sign * compare(a, b) || a.at - b.at;
    });
    rows.forEach(({ row }) => body.append(row));
  };

  const makeSortable = (table) => {
    const head = table.tHead && table.tHead.rows;
    const spans = [...table.querySelectorAll("th, td")].some((c) => c.rowSpan > 1 || c.colSpan > 1);
    if (!head || head.length !== 1 || spans || table.tBodies.length !== 1) return;
    if (table.tBodies[0].rows.length <= LONG) return;
    [...head[0].cells].forEach((cell, column) => {
      const title = words(cell);
      if (!title) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "wbc-sort";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const rises = cell.getAttribute("aria-sort") !== "ascending";
        [...head[0].cells].forEach((c) => c.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", rises ? "ascending" : "descending");
        sort(table, column, rises);
      });
    });
  };

  const offer = (table, number) => {
    const figure = table.closest("figure");
    const page = (location.pathname.split("/").pop() || "table").replace(/\.html$/, "");
    const link = document.createElement("button");
    link.type = "button";
    link.className = "wbc-csv";
    link.textContent = "CSV";
    link.setAttribute("aria-label", "Download this table as CSV");
    link.addEventListener("click", () => {
      const file = new Blob(["\ufeff", asCsv(table)], { type: "text/csv;charset=utf-8" });
      const anchor = document.createElement("a");
      anchor.href = URL.createObjectURL(file);
      anchor.download = `${page}-${(figure && figure.id) || `table-${number + 1}`}.csv`;
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(anchor.href), 1000);
    });
    (table.closest(".output") || table).after(link);
  };

  document.addEventListener("DOMContentLoaded", () => {
    const tables = [...document.querySelectorAll("table.wbc-table")];
    tables.forEach(makeSortable);
    tables.forEach(offer);
  });
})();
