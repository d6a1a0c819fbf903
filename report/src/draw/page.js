(function () {
  "use strict";
  var units = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, min: 6e10, h: 3.6e12, d: 8.64e13 };

  // The number at the start of a cell in its smallest unit, or its text: dates and names.
  function value(row, column) {
    var text = row.cells[column] ? row.cells[column].textContent.trim() : "";
    var number = /^[#+]?(\d+(?:\.\d+)?)(?: (ns|us|ms|s|min|h|d)(?![a-z]))?(?![\d.:-])/.exec(text);
    return number ? parseFloat(number[1]) * (units[number[2]] || 1) : text;
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
