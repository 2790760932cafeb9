// The published results: filters over rows that stand on the page.
(function () {
  "use strict";
  var lungtune = window.lungtune, form = document.getElementById("paper-filters");
  if (!form) return;
  var rows = Array.from(document.querySelectorAll("#published tbody tr")), status = document.querySelector("#published .shown");
  var corpora = Array.from(document.querySelectorAll("#published .corpus"));

  function draw() {
    var chosen = Array.from(form.elements).filter(function (field) { return field.name && field.value; });
    var shown = 0;
    rows.forEach(function (row) {
      row.hidden = !chosen.every(function (field) { return row.dataset[field.name] === field.value; });
      shown += row.hidden ? 0 : 1;
    });
    corpora.forEach(function (corpus) { corpus.hidden = !corpus.querySelector("tbody tr:not([hidden])"); });
    status.textContent = lungtune.counted(shown, "result") + (shown < rows.length ? " of " + rows.length : "");
  }

  form.addEventListener("input", draw);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.hidden = false;
  draw();
})();
