// Runs before the page is drawn: the reader's choice of light or dark, and the mark that scripts run.
(function () {
  "use strict";
  var KEY = "lungtune-theme", root = document.documentElement;
  root.classList.add("js");

  function stored() {
    try { return localStorage.getItem(KEY); } catch (refused) { return null; }
  }

  function dark() {
    var chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function label(button) {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", dark() ? "Show the page light" : "Show the page dark");
    button.hidden = false;
  }

  if (stored() === "dark" || stored() === "light") root.dataset.theme = stored();

  document.addEventListener("DOMContentLoaded", function () {
    var button = document.getElementById("theme");
    if (!button) return;
    label(button);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { label(button); });
    button.addEventListener("click", function () {
      root.dataset.theme = dark() ? "light" : "dark";
      try { localStorage.setItem(KEY, root.dataset.theme); } catch (refused) { /* the choice holds for this page */ }
      label(button);
    });
  });
})();
