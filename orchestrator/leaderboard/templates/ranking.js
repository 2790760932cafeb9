// A ranking: sorted and filtered over all its entries, drawn a hundred rows at a time.
(function () {
  "use strict";
  var lungtune = window.lungtune, h = lungtune.h;
  var PAGE = 100;

  function score(mean, sd, low, high) {
    return [
      h("b", { class: "score" }, lungtune.one(mean)),
      sd === null ? null : h("small", { class: "sd" }, "±" + lungtune.one(sd)),
      low === null ? null : h("small", { class: "range" }, lungtune.one(low) + " – " + lungtune.one(high))
    ];
  }

  function number(value, digits) { return h("td", { class: "n" }, lungtune.fixed(value, digits)); }

  function details(entry) {
    return [entry.differs.map(function (item) { return [h("span", {}, item), " "]; }), h("code", {}, entry.hash)];
  }

  function rank(entry) {
    var span = entry.rank_low === null || entry.rank_low === entry.rank_high ? null
      : h("small", { class: "range", title: "95 % interval of the rank" }, entry.rank_low + " – " + entry.rank_high);
    var tie = entry.tied ? h("abbr", { title: "tied with the first of its group: no difference shows" }, "=") : null;
    return h("td", { class: "rank" }, h("span", { class: "place" }, String(entry.rank), tie), span);
  }

  function row(entry, pooled, measures, picked) {
    var name = entry.model + ", " + entry.objective;
    return h("tr", { class: "entry", "data-id": entry.id },
      h("td", { class: "pick" }, h("input", {
        type: "checkbox", "data-pick": entry.id, checked: picked, "aria-label": "Compare " + name + " " + entry.hash
      })),
      rank(entry),
      h("th", { scope: "row", class: "model" },
        h("span", { class: "dot " + entry.colour }), h("a", { href: "entries/" + entry.id + ".html" }, entry.model),
        entry.badge ? [" ", h("span", { class: "tag gold" }, entry.badge)] : null,
        entry.kind === "ensemble" ? [" ", h("span", { class: "tag" }, "ensemble")] : null,
        h("small", { class: "phone" }, entry.objective), h("small", {}, details(entry))),
      h("td", { class: "objective" }, entry.objective, h("small", {}, entry.settings)),
      h("td", { class: "n" }, score(entry.score, entry.sd, entry.low, entry.high)),
      pooled ? number(entry.pooled, 1) : null,
      measures.map(function (measure) { return number(entry[measure.key], measure.digits); }),
      h("td", { class: "n" }, String(entry.seeds)),
      h("td", { class: "wide" }, entry.pretraining || h("span", { class: "quiet" }, "none"),
        entry.extra.length ? h("small", {}, "and " + entry.extra.join(", ")) : null),
      h("td", { class: "n" }, lungtune.short(entry.parameters)),
      h("td", { class: "n" }, lungtune.one(entry.minutes), h("small", { class: "device" }, entry.device)),
      h("td", {}, entry.watched ? h("span", { class: "tag warn" }, "yes") : h("span", { class: "quiet" }, "no")));
  }

  function Ranking(section, table) {
    this.section = section;
    this.table = table;
    this.element = section.querySelector("table.ranking");
    this.status = section.querySelector(".shown");
    this.more = section.querySelector("button.more");
    this.pooled = Boolean(this.element.querySelector("[data-key=pooled]"));
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
      this.found.sort(function (a, b) { return lungtune.compareValues(a[key], b[key], sign) || a.index - b.index; });
    }
    var body = this.element.tBodies[0];
    body.replaceChildren();
    this.append(0, Math.min(this.limit, this.found.length));
  };

  Ranking.prototype.append = function (from, to) {
    var part = document.createDocumentFragment(), grouped = this.key === "rank";
    for (var i = from; i < to; i++) {
      var made = row(this.found[i], this.pooled, this.table.measures, this.picked.indexOf(this.found[i].id) >= 0);
      if (grouped && i > 0 && this.found[i].group !== this.found[i - 1].group) made.classList.add("group-start");
      part.append(made);
    }
    this.element.tBodies[0].append(part);
    var total = this.table.entries.length, found = this.found.length;
    this.status.textContent = (found === 0 ? "No entry passes the filters." :
      (to < found ? "First " + lungtune.count(to) + " of " : "") + lungtune.count(found) +
      (found === 1 ? " entry" : " entries") + (found < total ? " that pass the filters, of " + lungtune.count(total) : ""));
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
