// A ranking: sorted and filtered over all its entries, drawn a hundred rows at a time. The cells come ready-made.
(function () {
  "use strict";
  var lungtune = window.lungtune, h = lungtune.h;
  var PAGE = 100;

  function row(entry, picked) {
    var name = entry.values.model + ", " + entry.values.objective, body = document.createElement("template");
    body.innerHTML = "<tr>" + entry.table.columns.map(function (column, at) {
      return column.tags[0] + entry.cells[at] + column.tags[1];
    }).join("") + "</tr>";
    var made = body.content.firstChild;
    made.className = "entry";
    made.dataset.id = entry.id;
    made.prepend(h("td", { class: "pick" }, h("input", {
      type: "checkbox", "data-pick": entry.id, checked: picked, "aria-label": "Compare " + name + " " + entry.hash
    })));
    return made;
  }

  function Ranking(section, table) {
    this.section = section;
    this.table = table;
    this.element = section.querySelector("table.ranking");
    this.status = section.querySelector(".shown");
    this.more = section.querySelector("button.more");
    this.key = "rank";
    this.order = "ascending";
    this.limit = PAGE;
    this.found = table.entries;
    var own = this;
    this.more.addEventListener("click", function () { own.extend(); });
  }

  Ranking.prototype.header = function (key) { return this.element.querySelector("th[data-key='" + key + "']"); };

  Ranking.prototype.sort = function (key, order) {
    if (!this.header(key)) return;
    this.key = key;
    this.order = order;
    lungtune.showOrder(this.header(key), order);
  };

  // Entries that pass, in order; `limit` rows of them are drawn.
  Ranking.prototype.draw = function (passes, picked) {
    var key = this.key, sign = this.order === "ascending" ? 1 : -1;
    this.picked = picked;
    this.limit = PAGE;
    this.found = this.table.entries.filter(passes);
    if (key !== "rank" || sign < 0) {
      this.found.sort(function (a, b) { return lungtune.compareValues(a.values[key], b.values[key], sign) || a.index - b.index; });
    }
    var body = this.element.tBodies[0];
    body.replaceChildren();
    this.append(0, Math.min(this.limit, this.found.length));
  };

  Ranking.prototype.append = function (from, to) {
    var part = document.createDocumentFragment(), grouped = this.key === "rank";
    for (var i = from; i < to; i++) {
      var made = row(this.found[i], this.picked.indexOf(this.found[i].id) >= 0);
      if (grouped && i > 0 && this.found[i].group !== this.found[i - 1].group) made.classList.add("group-start");
      part.append(made);
    }
    this.element.tBodies[0].append(part);
    var total = this.table.entries.length, found = this.found.length;
    this.status.textContent = (found === 0 ? "No entry passes the filters." :
      (to < found ? "First " + lungtune.count(to) + " of " : "") + lungtune.counted(found, "entry", "entries") +
      (found < total ? (found === 1 ? " that passes" : " that pass") + " the filters, of " + lungtune.count(total) : ""));
    this.more.hidden = to >= found;
    this.more.textContent = "Show " + Math.min(PAGE, found - to) + " more";
    lungtune.settle();
  };

  // The next hundred; the keyboard goes on with the first of them.
  Ranking.prototype.extend = function () {
    var from = this.limit;
    this.limit += PAGE;
    this.append(from, Math.min(this.limit, this.found.length));
    var first = this.element.tBodies[0].rows[from];
    if (first) first.querySelector("a").focus({ preventScroll: true });
  };

  lungtune.Ranking = Ranking;
})();
