// Two entries beside each other: compare.html#<id>,<id>.
(function () {
  "use strict";
  var lungtune = window.lungtune, h = lungtune.h;
  var result = document.getElementById("result"), selects = [document.getElementById("a"), document.getElementById("b")];
  var LISTED = 200, TAIL = 50 * (1 - 0.95), asked = 0;

  // --- choosing ---

  function ids() {
    return location.hash.slice(1).split(",").map(decodeURIComponent).filter(function (id) { return lungtune.byId.has(id); });
  }

  function name(entry) { return entry.values.model + ", " + entry.values.objective + " " + entry.hash; }

  function offer(select, chosen) {
    var groups = lungtune.data.tables.map(function (table) {
      var listed = table.entries.filter(function (entry, index) { return index < LISTED || entry.id === chosen; });
      return h("optgroup", { label: table.title + ", " + table.protocol_name }, listed.map(function (entry) {
        return h("option", { value: entry.id, selected: entry.id === chosen }, entry.values.rank + ". " + name(entry) + ": " + lungtune.shown(entry, "score"));
      }));
    });
    select.replaceChildren(h("option", { value: "" }, "Choose an entry"));
    lungtune.fill(select, groups);
  }

  function choose() {
    var pair = selects.map(function (select) { return select.value; });
    if (pair[0] && pair[1]) location.hash = pair.join(",");
  }

  // --- whether these two can be compared ---

  function refusal(a, b) {
    if (a.id === b.id) return "These are one and the same entry: choose another for one of the two.";
    if (!a.cycles || a.cycles !== b.cycles) {
      return "These two were not tested on the same cycles (" + a.table.title + " and " + b.table.title +
        "), so a difference of their numbers says nothing about the models.";
    }
    if (a.table.honest !== b.table.honest) {
      var habit = a.table.honest ? "the second" : "the first";
      return "These two chose their epoch differently: " + habit + " chose it on the test side, which flatters its Score by " +
        "about two points. An honest entry is not compared with it.";
    }
    if (a.table.metric !== b.table.metric) {
      return "These two are ranked by different numbers (" + a.table.name + " and " + b.table.name + "), which have no difference.";
    }
    return null;
  }

  function show() {
    var pair = ids(), turn = ++asked;
    selects.forEach(function (select, side) { offer(select, pair[side]); });
    if (pair.length < 2) return say("Choose two entries: here, or with the boxes on the board.");
    var a = lungtune.byId.get(pair[0]), b = lungtune.byId.get(pair[1]), reason = refusal(a, b);
    if (reason) return say(reason);
    result.setAttribute("aria-busy", "true");
    Promise.all([need("entries", "entries/", a.id), need("entries", "entries/", b.id), need("cycles", "boards/", a.table.board)])
      .then(function (loaded) {
        if (turn !== asked) return;
        var lacking = !loaded[0].predicted ? a : !loaded[1].predicted ? b : null;
        if (lacking) return say("The predictions of " + name(lacking) + " are not kept, so it cannot be compared.");
        lacking = !loaded[0].resamples ? a : !loaded[1].resamples ? b : null;
        if (lacking) say(name(lacking) + " is too far down its table: only the best entries carry what a comparison needs.");
        else draw(a, b, loaded[0], loaded[1], loaded[2]);
      }, function (error) { say(error.message + ". Build the board again."); })
      .finally(function () { result.removeAttribute("aria-busy"); });
  }

  function need(kind, folder, id) {
    if (lungtune[kind][id]) return Promise.resolve(lungtune[kind][id]);
    return lungtune.load(folder + id + ".js").then(function () { return lungtune[kind][id]; });
  }

  function say(text) { result.replaceChildren(h("p", { class: "banner mild", role: "note" }, text)); }

  // --- what came out ---

  function floats(text) {
    var bytes = Uint8Array.from(atob(text), function (one) { return one.charCodeAt(0); });
    var view = new DataView(bytes.buffer), values = [];
    for (var at = 0; at < bytes.length; at += 4) values.push(view.getFloat32(at, true));
    return values;
  }

  // Of sorted float32 values, between the two nearest: numpy's own steps, so that the digits are the board's.
  function percentile(sorted, percent) {
    var place = percent / 100 * (sorted.length - 1), below = Math.floor(place), share = place - below;
    var low = sorted[below], high = sorted[Math.min(below + 1, sorted.length - 1)], step = Math.fround(high - low);
    return share >= 0.5 ? high - step * (1 - share) : low + step * share;
  }

  // The board's paired interval (analysis/ranking.py): both entries' resamples are of the same draws of patients.
  lungtune.paired = function (mean, one, two) {
    var left = floats(one), right = floats(two), found = [];
    for (var i = 0; i < left.length; i++) {
      var difference = Math.fround(left[i] - right[i]);
      if (isFinite(difference)) found.push(difference);
    }
    if (!found.length || 2 * found.length < left.length) return { mean: mean, low: null, high: null, resamples: left.length };
    found.sort(function (x, y) { return x - y; });
    return { mean: mean, low: percentile(found, TAIL), high: percentile(found, 100 - TAIL), resamples: left.length };
  };

  // Cells of [truth][predicted] from strings of base-36 class numbers.
  function confusion(labels, predicted, classes) {
    var cells = Array.from({ length: classes }, function () { return new Array(classes).fill(0); });
    for (var i = 0; i < labels.length; i++) cells[parseInt(labels[i], 36)][parseInt(predicted[i], 36)]++;
    return cells;
  }

  function draw(a, b, one, two, cycles) {
    var found = lungtune.paired(a.values.score - b.values.score, one.resamples, two.resamples);
    result.replaceChildren(
      verdict(found, a.table.name), numbers(a, b),
      h("section", { class: "pair" },
        matrix("A: " + name(a), one, cycles.classes), matrix("B: " + name(b), two, cycles.classes)),
      disagreement(one, two, cycles), settings(one.settings, two.settings));
    lungtune.settle();
  }

  // One digit after the point; a tie goes to the even digit, as Python has it on the entries' pages.
  function oneDigit(value) {
    var below = Math.floor(value * 10);
    return (value * 10 - below === 0.5 ? (below + below % 2) / 10 : value).toFixed(1);
  }

  function signed(value) { return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1); }

  lungtune.sentence = function (found) {
    if (found.low === null) return "The test side is too small for an interval: the two differ by " + oneDigit(Math.abs(found.mean)) + ".";
    var range = function (low, high) { return " (" + oneDigit(low) + " to " + oneDigit(high) + ")"; };
    if (found.low > 0) return "A is better by " + oneDigit(found.mean) + range(found.low, found.high) + ".";
    if (found.high < 0) return "B is better by " + oneDigit(-found.mean) + range(-found.high, -found.low) + ".";
    return "No difference shows: A minus B is " + signed(found.mean) + " (" + signed(found.low) + " to " + signed(found.high) + ").";
  };

  function verdict(found, name) {
    return h("section", { class: "verdict card" },
      h("p", { class: "sentence" }, lungtune.sentence(found)),
      found.low === null ? null : scale(found),
      h("p", { class: "quiet" }, name + " of A minus " + name + " of B, in brackets its 95 % interval: " + lungtune.count(found.resamples) +
        " times the same patients are drawn for both. Other patients could turn a difference whose interval holds 0."));
  }

  function svg(tag, attributes, text) {
    var element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.keys(attributes).forEach(function (key) { element.setAttribute(key, attributes[key]); });
    if (text) element.textContent = text;
    return element;
  }

  function scale(found) {
    var reach = Math.max(1, Math.abs(found.low), Math.abs(found.high)) * 1.15;
    var at = function (value) { return (50 - 50 * value / reach).toFixed(2) + "%"; };  // better to the left: A stands left
    var image = svg("svg", { width: "100%", height: 58, role: "img", "aria-label": lungtune.sentence(found) });
    image.append(
      svg("line", { class: "chance", x1: "50%", x2: "50%", y1: 0, y2: 40 }),
      svg("line", { class: "whisker", x1: at(found.high), x2: at(found.low), y1: 20, y2: 20 }),
      svg("circle", { class: "point", cx: at(found.mean), cy: 20, r: 6 }),
      svg("text", { class: "tick", x: 0, y: 54 }, "A better"),
      svg("text", { class: "tick", x: "50%", y: 54, "text-anchor": "middle" }, "0"),
      svg("text", { class: "tick", x: "100%", y: 54, "text-anchor": "end" }, "B better"));
    return h("div", { class: "plot f-ast" }, image);
  }

  function numbers(a, b) {
    var rows = a.table.columns.filter(function (column) {
      return column.compare && !(column.kind === "number" && a.values[column.key] === null && b.values[column.key] === null);
    }).map(function (column) { return [column.compare, lungtune.shown(a, column.key), lungtune.shown(b, column.key)]; });
    rows.push(["Trained on", a.device, b.device]);
    rows.push(["Epoch", a.table.protocol_name, b.table.protocol_name]);
    return card("Numbers", h("table", { class: "small sides" },
      h("thead", {}, h("tr", {}, h("td", {}), heading("A", a), heading("B", b))),
      h("tbody", {}, rows.map(cells))));
  }

  function heading(letter, entry) {
    return h("th", { scope: "col" }, h("a", { href: "entries/" + entry.id + ".html" }, letter + ": " + name(entry)));
  }

  function cells(row) {
    return h("tr", {}, h("th", { scope: "row" }, row[0]), h("td", {}, row[1]), h("td", {}, row[2]));
  }

  function settings(one, two) {
    var text = function (of, key) { return key in of ? JSON.stringify(of[key]) : "–"; };
    var keys = Object.keys(Object.assign({}, one, two)).filter(function (key) { return text(one, key) !== text(two, key); }).sort();
    return card("Settings that differ", keys.length === 0 ? h("p", { class: "quiet" }, "None: one config under two protocols.") :
      h("table", { class: "small sides" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Key"), h("th", { scope: "col" }, "A"), h("th", { scope: "col" }, "B"))),
        h("tbody", {}, keys.map(function (key) { return cells([key, text(one, key), text(two, key)]); }))));
  }

  function card(title) {
    return lungtune.fill(h("section", { class: "card" }, h("h2", { class: "small-title" }, title)), Array.prototype.slice.call(arguments, 1));
  }

  function matrix(title, detail, classes) {
    var found = confusion(detail.labels, detail.predicted, classes.length);
    return card(title,
      h("table", { class: "confusion" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "corner" }, "truth ↓ said →")),
          classes.map(function (text) { return h("th", { scope: "col" }, text); }))),
        h("tbody", {}, found.map(function (row, truth) {
          var total = row.reduce(function (sum, cell) { return sum + cell; }, 0);
          return h("tr", {}, h("th", { scope: "row" }, classes[truth]), row.map(function (cell, said) {
            var shade = "p" + Math.round(total ? 20 * cell / total : 0);
            return h("td", { class: (said === truth ? "hit " : "miss ") + shade }, lungtune.count(cell));
          }));
        }))),
      h("p", { class: "quiet" }, "Cycles, by the mean probability over seeds; shade is the share of the row."));
  }

  var KINDS = [["both", "both right"], ["a", "only A right"], ["b", "only B right"], ["none", "both wrong"]];

  function disagreement(one, two, cycles) {
    var counts = cycles.classes.map(function () { return { both: 0, a: 0, b: 0, none: 0 }; }), listed = [];
    for (var i = 0; i < one.labels.length; i++) {
      var truth = one.labels[i], left = one.predicted[i] === truth, right = two.predicted[i] === truth;
      var kind = left ? (right ? "both" : "a") : right ? "b" : "none";
      counts[parseInt(truth, 36)][kind]++;
      if (one.predicted[i] !== two.predicted[i]) listed.push({ at: i, kind: kind });
    }
    var all = { both: 0, a: 0, b: 0, none: 0 };
    counts.forEach(function (of) { KINDS.forEach(function (kind) { all[kind[0]] += of[kind[0]]; }); });
    var line = function (text, of) {
      return h("tr", {}, h("th", { scope: "row" }, text), KINDS.map(function (kind) { return h("td", {}, lungtune.count(of[kind[0]])); }));
    };
    return card("Where they disagree",
      h("table", { class: "small sides" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Cycles"), KINDS.map(function (kind) { return h("th", { scope: "col" }, kind[1]); }))),
        h("tbody", {}, counts.map(function (of, index) { return line(cycles.classes[index], of); }), line("all", all))),
      lungtune.cycleList(listed, one, two, cycles, KINDS));
  }

  selects.forEach(function (select) { select.addEventListener("change", choose); });
  window.addEventListener("hashchange", show);
  if (lungtune.data) show();
  else say("The board's data cannot be read. Build the board again.");
})();
