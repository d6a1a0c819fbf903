(function () {
  "use strict";
  var times = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, min: 6e10, h: 3.6e12, d: 8.64e13 };
  var decimal = " kMGTPE", binary = "BKMGTPE";

  function size(unit) {
    if (/^[kMGTPE]$/.test(unit)) return Math.pow(1000, decimal.indexOf(unit));
    if (/^([KMGTPE]i)?B(\/s)?$/.test(unit)) return Math.pow(1024, binary.indexOf(unit[0]));
    return times[unit] || 1;
  }

  // The number at the start of a cell in its smallest unit (of "2 min 5 s" the sum), or its text: dates and names.
  function value(row, column) {
    var text = row.cells[column] ? row.cells[column].textContent.trim() : "";
    var part = /^[#+]?(\d+(?:\.\d+)?(?:e\d+)?)(?: ([A-Za-z]+(?:\/s)?))?(?![\w.:-]) ?/, found = part.exec(text);
    if (!found) return text;
    for (var sum = 0; found; found = times[found[2]] ? part.exec(text) : null) {
      sum += parseFloat(found[1]) * size(found[2]);
      text = text.slice(found[0].length);
    }
    return sum;
  }

  // Numbers before texts, and nothing at the end, in any order.
  function compare(a, b, sign) {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    if (typeof a === "number") return sign * (a - b);
    return !a || !b ? (a ? -1 : b ? 1 : 0) : sign * a.localeCompare(b);
  }

  function onChosen(element, act) {
    element.tabIndex = 0;
    element.addEventListener("click", act);
    element.addEventListener("keydown", function (event) {
      if (event.target !== element || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      act();
    });
  }

  // The largest first, then the smallest; what belongs to a row goes with it.
  function sort(table, heads, column) {
    var head = heads[column], falls = head.getAttribute("aria-sort") !== "descending";
    heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    var body = table.tBodies[0], groups = [];
    Array.from(body.rows).forEach(function (row) {
      if (row.classList.contains("more")) groups[groups.length - 1].rows.push(row);
      else groups.push({ key: value(row, column), rows: [row] });
    });
    groups.sort(function (a, b) { return compare(a.key, b.key, falls ? -1 : 1); });
    groups.forEach(function (group) {
      group.rows.forEach(function (row) { body.appendChild(row); });
    });
  }

  document.querySelectorAll("table").forEach(function (table) {
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      head.setAttribute("aria-sort", "none");
      onChosen(head, function () { sort(table, heads, column); });
    });
  });

  document.querySelectorAll("tr.more").forEach(function (more) {
    var row = more.previousElementSibling;
    function show(open) {
      more.hidden = !open;
      row.setAttribute("aria-expanded", String(open));
    }
    row.classList.add("opens");
    show(false);
    onChosen(row, function () { show(more.hidden); });
  });
})();
