// The board's page: filters, order and picks in the address, so that a view can be linked.
(function () {
  "use strict";
  var lungtune = window.lungtune, h = lungtune.h;
  var form = document.getElementById("filters"), bar = document.getElementById("picks");
  var rankings = [], picked = [], waiting = 0;
  if (!lungtune.data || !form) return;

  lungtune.data.tables.forEach(function (table) {
    var section = document.getElementById(table.id);
    if (section) rankings.push(new lungtune.Ranking(section, table));
  });

  // --- filters ---

  var SIZES = { "1": [0, 1e6], "10": [1e6, 1e7], "50": [1e7, 5e7], "more": [5e7, Infinity] };

  function wanted() {
    var chosen = {};
    Array.from(form.elements).forEach(function (field) { if (field.name && field.value) chosen[field.name] = field.value; });
    return chosen;
  }

  function filterBy(chosen) {
    var words = (chosen.q || "").toLowerCase().split(/\s+/).filter(Boolean), size = SIZES[chosen.size];
    return function (entry) {
      if (chosen.pre && (entry.values.pretraining || "none") !== chosen.pre) return false;
      if (chosen.extra && !(chosen.extra === "none" ? entry.extra.length === 0 : entry.extra.indexOf(chosen.extra) >= 0)) return false;
      if (chosen.device && entry.device !== chosen.device) return false;
      if (size && !(entry.values.parameters > size[0] && entry.values.parameters <= size[1])) return false;
      if (!words.length) return true;
      entry.text = entry.text || [entry.values.model, entry.values.objective, entry.words, entry.hash, entry.id,
        entry.values.pretraining, entry.device].join(" ").toLowerCase();
      return words.every(function (word) { return entry.text.indexOf(word) >= 0; });
    };
  }

  function draw() {
    var chosen = wanted(), passes = filterBy(chosen);
    document.querySelectorAll("section.board[data-board]").forEach(function (section) {
      section.hidden = Boolean(chosen.split) && section.dataset.board !== chosen.split;
    });
    rankings.forEach(function (ranking) {
      if (!ranking.section.closest("[hidden]")) ranking.draw(passes, picked);
    });
    document.getElementById("clear").hidden = Object.keys(chosen).length === 0;
  }

  // --- the address ---

  function write() {
    var state = new URLSearchParams(wanted());
    rankings.forEach(function (ranking) {
      if (ranking.key !== "rank" || ranking.order !== "ascending") {
        state.append("sort", [ranking.table.id, ranking.key, ranking.order].join(":"));
      }
    });
    if (picked.length) state.set("pick", picked.join(","));
    var text = state.toString();
    if (text || location.hash.indexOf("=") > 0) history.replaceState(null, "", "#" + text);
  }

  function read() {
    if (location.hash.indexOf("=") < 0) return;
    var state = new URLSearchParams(location.hash.slice(1));
    Array.from(form.elements).forEach(function (field) {
      if (!field.name) return;
      field.value = state.get(field.name) || "";
      if (field.value !== (state.get(field.name) || "")) field.value = "";
    });
    rankings.forEach(function (ranking) { ranking.sort("rank", "ascending"); });
    state.getAll("sort").forEach(function (text) {
      var parts = text.split(":"), ranking = rankings.find(function (r) { return r.table.id === parts[0]; });
      if (ranking && /^(ascending|descending)$/.test(parts[2]) && /^\w+$/.test(parts[1])) ranking.sort(parts[1], parts[2]);
    });
    picked = (state.get("pick") || "").split(",").filter(function (id) { return lungtune.byId.has(id); }).slice(0, 2);
    showPicks();
  }

  // --- picks ---

  function showPicks() {
    document.querySelectorAll("[data-pick]").forEach(function (box) { box.checked = picked.indexOf(box.dataset.pick) >= 0; });
    bar.hidden = picked.length === 0;
    document.body.classList.toggle("picking", picked.length > 0);
    if (!picked.length) return;
    var names = picked.map(function (id) {
      var entry = lungtune.byId.get(id);
      return h("span", { class: "picked" }, entry.values.model, " ", h("small", {}, entry.values.objective + ", " + lungtune.shown(entry, "score")));
    });
    bar.querySelector(".names").replaceChildren.apply(bar.querySelector(".names"), names);
    var link = bar.querySelector("a");
    link.hidden = picked.length < 2;
    link.href = "compare.html#" + picked.join(",");
    bar.querySelector(".hint").hidden = picked.length === 2;
  }

  function pick(id, on) {
    picked = picked.filter(function (other) { return other !== id; });
    if (on) picked.push(id);
    if (picked.length > 2) picked.shift();  // the oldest makes room
    showPicks();
    write();
  }

  // --- events ---

  function changed() { draw(); write(); }

  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.addEventListener("input", function (event) {
    clearTimeout(waiting);
    if (event.target.name === "q") waiting = setTimeout(changed, 120);
    else changed();
  });
  document.getElementById("clear").addEventListener("click", function () {
    form.reset();
    changed();
    form.elements.q.focus();
  });
  bar.querySelector("button").addEventListener("click", function () {
    picked = [];
    showPicks();
    write();
  });
  document.addEventListener("change", function (event) {
    if (event.target.dataset && event.target.dataset.pick) pick(event.target.dataset.pick, event.target.checked);
  });
  document.addEventListener("click", function (event) {
    var button = event.target.closest("table.ranking thead button");
    if (!button) return;
    var header = button.closest("th"), id = header.closest("table").dataset.table;
    var ranking = rankings.find(function (r) { return r.table.id === id; });
    ranking.sort(header.dataset.key, lungtune.nextOrder(header));
    ranking.draw(filterBy(wanted()), picked);
    write();
  });
  window.addEventListener("hashchange", function () { read(); draw(); });

  form.hidden = false;
  read();
  draw();
})();
