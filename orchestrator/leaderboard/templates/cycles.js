// The cycles on which two entries say different things, fifty at a time.
(function () {
  "use strict";
  var lungtune = window.lungtune, h = lungtune.h;
  var PAGE = 50;

  lungtune.cycleList = function (listed, one, two, cycles, kinds) {
    var body = h("tbody", {}), status = h("p", { class: "shown quiet", role: "status" });
    var more = h("button", { type: "button", class: "more" }), found = listed, limit = 0;
    var select = h("select", { id: "kind" }, h("option", { value: "" }, "all"), kinds.slice(1).map(function (kind) {
      return h("option", { value: kind[0] }, kind[1]);
    }));

    function said(code) { return cycles.classes[parseInt(code, 36)]; }

    function extend() {
      found.slice(limit, limit + PAGE).forEach(function (item) {
        var verdict = kinds.find(function (kind) { return kind[0] === item.kind; })[1];
        body.append(h("tr", {}, h("th", { scope: "row" }, h("code", {}, cycles.cycle_ids[item.at])), h("td", {}, said(one.labels[item.at])),
          h("td", { class: item.kind === "a" ? "right" : "" }, said(one.predicted[item.at])),
          h("td", { class: item.kind === "b" ? "right" : "" }, said(two.predicted[item.at])), h("td", {}, verdict)));
      });
      limit = Math.min(limit + PAGE, found.length);
      status.textContent = found.length === 0 ? "No such cycle." : "First " + lungtune.count(limit) + " of " + lungtune.counted(found.length, "cycle") + " on which A and B say different things.";
      more.hidden = limit >= found.length;
      more.textContent = "Show " + Math.min(PAGE, found.length - limit) + " more";
    }

    function restart() {
      found = listed.filter(function (item) { return !select.value || item.kind === select.value; });
      limit = 0;
      body.replaceChildren();
      extend();
    }

    more.addEventListener("click", extend);
    select.addEventListener("change", restart);
    restart();
    return h("div", { class: "cycles" },
      h("p", { class: "controls" }, h("label", { for: "kind" }, "Show "), select), status,
      h("div", { class: "scroll", role: "region", "aria-label": "Cycles on which A and B say different things" },
        h("table", {}, h("thead", {}, h("tr", {}, ["Cycle", "Truth", "A said", "B said", "Who is right"].map(function (text) {
          return h("th", { scope: "col", class: "plain" }, text);
        }))), body)),
      more);
  };
})();
