// The paired bootstrap over patients, as orchestrator/leaderboard/statistics.py does it; the draws are its own.
(function () {
  "use strict";
  var statistics = window.lungtune.statistics = {};

  // sfc32 by C. Doty-Humphrey: uniform in [0, 1), the same for the same seed in every browser.
  statistics.generator = function (seed) {
    var a = 0x9e3779b9, b = 0x243f6a88, c = seed | 0, counter = 1;
    function next() {
      var out = (a + b + counter) | 0;
      counter = (counter + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = ((c << 21) | (c >>> 11)) + out | 0;
      return (out >>> 0) / 4294967296;
    }
    for (var i = 0; i < 15; i++) next();
    return next;
  };

  // hits[fold][patient] = [normal hit, normal, abnormal hit, abnormal]; a rate over no cycle is 0.
  statistics.score = function (hits) {
    return mean(hits.map(function (fold) {
      var sum = [0, 1, 2, 3].map(function (k) { return fold.reduce(function (total, patient) { return total + patient[k]; }, 0); });
      return 50 * (sum[0] / Math.max(sum[1], 1) + sum[2] / Math.max(sum[3], 1));
    }));
  };

  // Score of `a` minus Score of `b` over the same resamples of patients, drawn within each fold; a fold whose resample
  // has no normal or no abnormal cycle is left out of that resample's mean.
  statistics.compare = function (a, b, resamples, seed) {
    var random = statistics.generator(seed), found = [], folds = a.map(function (fold, f) {
      var flat = new Float64Array(fold.length * 6);
      fold.forEach(function (patient, p) { flat.set([patient[1], patient[3], patient[0], patient[2], b[f][p][0], b[f][p][2]], p * 6); });
      return { patients: fold.length, counts: flat };
    });
    for (var r = 0; r < resamples; r++) {
      var total = 0, used = 0;
      for (var f = 0; f < folds.length; f++) {
        var n = folds[f].patients, counts = folds[f].counts, normal = 0, abnormal = 0, one = 0, two = 0, three = 0, four = 0;
        for (var draw = 0; draw < n; draw++) {
          var at = Math.floor(random() * n) * 6;
          normal += counts[at];
          abnormal += counts[at + 1];
          one += counts[at + 2];
          two += counts[at + 3];
          three += counts[at + 4];
          four += counts[at + 5];
        }
        if (normal > 0 && abnormal > 0) {
          total += 50 * ((one - three) / normal + (two - four) / abnormal);
          used++;
        }
      }
      if (used) found.push(total / used);
    }
    var difference = statistics.score(a) - statistics.score(b);
    if (found.length * 2 < resamples || !found.length) return { mean: difference, low: null, high: null };
    found.sort(function (x, y) { return x - y; });
    return { mean: difference, low: statistics.percentile(found, 2.5), high: statistics.percentile(found, 97.5) };
  };

  // Of sorted values, between the two nearest.
  statistics.percentile = function (sorted, percent) {
    var place = (sorted.length - 1) * percent / 100, below = Math.floor(place);
    var above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
  };

  // Cells of [truth][predicted] from strings of base-36 class numbers.
  statistics.confusion = function (labels, predicted, classes) {
    var cells = Array.from({ length: classes }, function () { return new Array(classes).fill(0); });
    for (var i = 0; i < labels.length; i++) cells[parseInt(labels[i], 36)][parseInt(predicted[i], 36)]++;
    return cells;
  };

  function mean(values) { return values.reduce(function (total, value) { return total + value; }, 0) / values.length; }
})();
