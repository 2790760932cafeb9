// Sorting of values, and of the tables that stand on the page as a whole.
(function () {
  "use strict";
  var lungtune = window.lungtune;

  // Order of two values; what is missing stays at the end whichever way the sort goes.
  lungtune.compareValues = function (a, b, sign) {
    var none = function (value) { return value === null || value === undefined || value === ""; };
    if (none(a) || none(b)) return none(a) - none(b);
    if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
    return sign * (a - b);
  };

  // A heading's next order: numbers start with the largest (ranks with the best), text with A.
  lungtune.nextOrder = function (header) {
    var first = header.dataset.first || "ascending";
    return header.getAttribute("aria-sort") !== first ? first : first === "ascending" ? "descending" : "ascending";
  };

  lungtune.showOrder = function (header, order) {
    Array.from(header.parentNode.cells).forEach(function (cell) {
      if (cell.hasAttribute("aria-sort")) cell.setAttribute("aria-sort", "none");
    });
    header.setAttribute("aria-sort", order);
  };

  function sortRows(header) {
    var order = lungtune.nextOrder(header), sign = order === "ascending" ? 1 : -1;
    var body = header.closest("table").tBodies[0], column = header.cellIndex;
    var number = header.dataset.kind === "number";
    Array.from(body.rows)
      .map(function (row, index) {
        var text = row.cells[column].dataset.value || "";
        return { row: row, index: index, value: number && text !== "" ? parseFloat(text) : text };
      })
      .sort(function (a, b) { return lungtune.compareValues(a.value, b.value, sign) || a.index - b.index; })
      .forEach(function (item) { body.append(item.row); });
    lungtune.showOrder(header, order);
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest("table.sortable thead button");
    if (button) sortRows(button.closest("th"));
  });

  // A scroller that has nothing to scroll needs no place in the tab order.
  lungtune.settle = function () {
    document.querySelectorAll(".scroll").forEach(function (box) {
      if (box.scrollWidth > box.clientWidth + 1) box.setAttribute("tabindex", "0");
      else box.removeAttribute("tabindex");
    });
  };
  window.addEventListener("resize", lungtune.settle);
  document.addEventListener("DOMContentLoaded", lungtune.settle);
})();
