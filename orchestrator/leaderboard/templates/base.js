// What all pages share: elements from text, data as scripts. Markup comes from the board's own cells alone.
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

  lungtune.count = function (value) { return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, ","); };

  // counted(1, "entry", "entries"): 1 entry; without a plural the noun and an s, as feature_store/counted.py has it.
  lungtune.counted = function (value, noun, plural) {
    return lungtune.count(value) + " " + (value === 1 ? noun : plural || noun + "s");
  };

  // What a ready-made cell says first: its value, without what explains it in small.
  lungtune.shown = function (entry, key) {
    var box = document.createElement("template");
    box.innerHTML = entry.cells[entry.table.columns.findIndex(function (column) { return column.key === key; })];
    var text = document.createTreeWalker(box.content, NodeFilter.SHOW_TEXT).nextNode();
    return text ? text.data : "";
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

  // data/board.js calls this: each row becomes an entry with its facts, and the values and cells of the table's columns.
  lungtune.take = function (data) {
    lungtune.data = data;
    lungtune.byId = new Map();
    data.tables.forEach(function (table) {
      table.entries = table.rows.map(function (row, index) {
        var entry = { table: table, index: index, values: {}, cells: row[2] };
        data.facts.forEach(function (name, at) { entry[name] = row[0][at]; });
        table.columns.forEach(function (column, at) { entry.values[column.key] = row[1][at]; });
        lungtune.byId.set(entry.id, entry);
        return entry;
      });
      delete table.rows;
    });
  };
})();
