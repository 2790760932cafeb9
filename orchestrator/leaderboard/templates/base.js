// What all pages share: elements from text (never from markup), numbers as the board writes them, data as scripts.
(function () {
  "use strict";
  var lungtune = window.lungtune = { boards: {}, entries: {}, cycles: {} };

  // h("td", {class: "n"}, "text", node): children that are null are left out.
  lungtune.h = function (tag, attributes) {
    var element = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) {
      var value = attributes[name];
      if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
    });
    lungtune.fill(element, Array.prototype.slice.call(arguments, 2));
    return element;
  };

  lungtune.fill = function (element, children) {
    children.forEach(function (child) {
      if (Array.isArray(child)) lungtune.fill(element, child);
      else if (child !== null && child !== undefined) element.append(child);
    });
    return element;
  };

  // A number of digits after the point; a tie goes to the even digit, as Python has it, so that both draw the same row.
  lungtune.fixed = function (value, digits) {
    if (value === null) return "–";
    var scale = Math.pow(10, digits), below = Math.floor(value * scale);
    return (value * scale - below === 0.5 ? (below + below % 2) / scale : value).toFixed(digits);
  };

  lungtune.one = function (value) { return lungtune.fixed(value, 1); };

  lungtune.signed = function (value) { return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(1); };

  lungtune.count = function (value) { return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ","); };

  // 993485 as "993 k"; as figures.short_count does it.
  lungtune.short = function (value) {
    var units = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
    for (var i = 0; i < units.length; i++) {
      if (value >= units[i][0] * 0.9995) {
        var scaled = value / units[i][0];
        return (scaled < 999.5 ? String(Number(scaled.toPrecision(3))) : scaled.toFixed(0)) + " " + units[i][1];
      }
    }
    return String(value);
  };

  // A page opened as file:// may not fetch, but it may run a script that hands its data over.
  lungtune.load = function (path) {
    return new Promise(function (done, failed) {
      var script = document.createElement("script");
      script.src = path;
      script.onload = function () { done(); };
      script.onerror = function () { failed(new Error(path + " cannot be read")); };
      document.head.append(script);
    });
  };

  // data/board.js calls this: rows of values under one list of columns become entries.
  lungtune.take = function (data) {
    lungtune.data = data;
    lungtune.byId = new Map();
    data.tables.forEach(function (table) {
      table.entries = table.rows.map(function (row, index) {
        var entry = { table: table, index: index };
        data.columns.forEach(function (name, at) { entry[name] = row[at]; });
        Object.assign(entry, entry.beside);
        lungtune.byId.set(entry.id, entry);
        return entry;
      });
      delete table.rows;
    });
  };
})();
