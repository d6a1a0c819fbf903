(function () {
  "use strict";
  var svg = document.currentScript.closest("svg");
  var left = 24, room = 1352, inset = 3, character = 6.6;
  var frames = Array.prototype.map.call(svg.querySelectorAll(".f"), function (g) {
    return {
      g: g, rect: g.querySelector("rect"), text: g.querySelector("text"), name: g.dataset.n,
      start: +g.dataset.s, end: +g.dataset.s + +g.dataset.v, level: +g.dataset.l
    };
  });
  var found = svg.querySelector(".found");

  function place(frame, x, width) {
    var letters = Array.from(frame.name), most = Math.floor((width - 2 * inset) / character);
    frame.g.style.display = width < 0.2 ? "none" : "";
    frame.rect.setAttribute("x", x.toFixed(2));
    frame.rect.setAttribute("width", width.toFixed(2));
    frame.text.setAttribute("x", (x + inset).toFixed(2));
    frame.text.textContent = letters.length <= most ? frame.name
      : most < 3 ? "" : letters.slice(0, most - 1).join("") + "\u2026";
  }

  // One frame, and what it calls, take all of the width; its callers stay above it.
  function zoom(to) {
    frames.forEach(function (frame) {
      var calls = frame.level < to.level && frame.start <= to.start && frame.end >= to.end;
      var inside = frame.level >= to.level && frame.start >= to.start && frame.end <= to.end;
      var scale = room / (to.end - to.start);
      frame.g.classList.toggle("up", calls);
      if (calls) place(frame, left, room);
      else if (inside) place(frame, left + (frame.start - to.start) * scale, (frame.end - frame.start) * scale);
      else frame.g.style.display = "none";
    });
  }

  function pattern(words) {
    try {
      return new RegExp(words, "i");
    } catch (e) {
      return new RegExp(words.replace(/[^A-Za-z0-9_]/g, "\\$&"), "i");
    }
  }

  // Of frames that are found below each other only the first counts.
  function search(words) {
    var asked = words ? pattern(words) : null, sum = 0, until = 0;
    frames.forEach(function (frame) {
      frame.hit = !!asked && asked.test(frame.name);
      frame.g.classList.toggle("hit", frame.hit);
    });
    frames.filter(function (frame) { return frame.hit; }).sort(function (a, b) {
      return a.start - b.start || a.level - b.level;
    }).forEach(function (frame) {
      if (frame.start < until) return;
      sum += frame.end - frame.start;
      until = frame.end;
    });
    found.textContent = asked ? (100 * sum / +svg.dataset.total).toFixed(2) + " %" : "";
  }

  frames.forEach(function (frame) {
    frame.g.addEventListener("click", function () { zoom(frame); });
  });
  svg.querySelector(".reset").addEventListener("click", function () { zoom(frames[0]); });
  var field = document.querySelector("input.search");
  if (field) {
    svg.querySelector(".search").style.display = "none";
    field.addEventListener("input", function () { search(field.value); });
  } else {
    svg.querySelector(".search").addEventListener("click", function () {
      var words = window.prompt("Name or regular expression; empty: none", "");
      if (words !== null) search(words);
    });
  }
  document.addEventListener("keydown", function (event) {
    if (event.key !== "Escape") return;
    if (field) field.value = "";
    search("");
    zoom(frames[0]);
  });
})();
