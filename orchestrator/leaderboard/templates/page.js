(function () {
  "use strict";

  // Sorting: each entry is a tbody, so that its details travel with it. Empty values stay at the end.
  function valueOf(body, column, kind) {
    var text = body.rows[0].cells[column].dataset.value || "";
    if (text === "") return null;
    return kind === "number" ? parseFloat(text) : text.toLowerCase();
  }

  function sortBy(header) {
    var table = header.closest("table");
    var column = header.cellIndex;
    var kind = header.firstElementChild.dataset.kind;
    var first = kind === "number" && header.textContent.trim() !== "Rank" ? "descending" : "ascending";
    var other = first === "ascending" ? "descending" : "ascending";
    var order = header.getAttribute("aria-sort") === first ? other : first;
    Array.from(header.parentNode.cells).forEach(function (cell) { cell.setAttribute("aria-sort", "none"); });
    header.setAttribute("aria-sort", order);
    var sign = order === "ascending" ? 1 : -1;
    Array.from(table.tBodies)
      .map(function (body, index) { return { body: body, index: index, value: valueOf(body, column, kind) }; })
      .sort(function (a, b) {
        if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.index - b.index;
        return (a.value > b.value) - (a.value < b.value) ? sign * ((a.value > b.value) - (a.value < b.value)) : a.index - b.index;
      })
      .forEach(function (item) { table.appendChild(item.body); });
  }

  function show(body, open) {
    var toggle = body.querySelector(".toggle");
    var detail = document.getElementById(toggle.getAttribute("aria-controls"));
    toggle.setAttribute("aria-expanded", String(open));
    body.classList.toggle("open", open);
    if (open) detail.removeAttribute("hidden");
    else detail.setAttribute("hidden", "until-found");
  }

  document.addEventListener("click", function (event) {
    var sorter = event.target.closest("table.sortable thead button");
    if (sorter) return sortBy(sorter.parentNode);
    var row = event.target.closest("tbody.entry > tr:first-child");
    if (row && !event.target.closest("a") && !String(window.getSelection())) {
      show(row.parentNode, row.querySelector(".toggle").getAttribute("aria-expanded") !== "true");
    }
  });

  document.addEventListener("keydown", function (event) {
    if (event.key !== "Escape") return;
    var body = event.target.closest && event.target.closest("tbody.entry.open");
    if (!body) return;
    show(body, false);
    body.querySelector(".toggle").focus();
  });

  // The browser's own search opens what it finds.
  document.addEventListener("beforematch", function (event) {
    var body = event.target.closest("tbody.entry");
    if (body) show(body, true);
  });

  // A link to an entry opens it.
  function openTarget() {
    var body = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (body && body.matches("tbody.entry")) { show(body, true); body.scrollIntoView({ block: "start" }); }
  }
  window.addEventListener("hashchange", openTarget);
  openTarget();

  // A scroller that has nothing to scroll needs no place in the tab order.
  function settle() {
    document.querySelectorAll(".scroll").forEach(function (box) {
      if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    });
  }
  window.addEventListener("resize", settle);
  settle();
})();
