// Plots: which cost stands below, and points that the arrow keys walk through.
(function () {
  "use strict";

  document.addEventListener("change", function (event) {
    if (!event.target.matches("input[data-plot]")) return;
    var figure = event.target.closest("figure");
    figure.querySelectorAll("[data-cost]").forEach(function (plot) { plot.hidden = plot.dataset.cost !== event.target.dataset.plot; });
  });

  // One point of a plot is in the tab order; the arrows go to its neighbours.
  document.querySelectorAll(".points").forEach(function (plot) {
    var points = Array.from(plot.querySelectorAll("a"));
    points.forEach(function (point, index) { point.setAttribute("tabindex", index === 0 ? "0" : "-1"); });
    plot.addEventListener("keydown", function (event) {
      var step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      var at = points.indexOf(event.target.closest("a"));
      if (!step || at < 0) return;
      event.preventDefault();
      var next = points[(at + step + points.length) % points.length];
      points[at].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  });
})();
