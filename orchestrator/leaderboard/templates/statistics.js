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

  // The metric in percent of the rates of its groups: their mean, or for sprsound of every seed's Sp and Se the mean of
  // the average and of the harmonic mean.
  function combined(rates, metric) {
    if (metric.indexOf("sprsound") !== 0) return 100 * mean(rates);
    var seeds = [];
    for (var k = 0; k < rates.length; k += 2) {
      var sum = rates[k] + rates[k + 1];
      seeds.push((sum / 2 + (sum > 0 ? 2 * rates[k] * rates[k + 1] / sum : 0)) / 2);
    }
    return 100 * mean(seeds);
  }

  // Pairs of hits and cycles that count in a fold: the mean recall (uar) is that of the classes that occur.
  function pairsOf(fold, metric) {
    var pairs = [];
    for (var k = 0; k < fold[0].length; k += 2) {
      if (metric !== "uar" || total(fold, k + 1) > 0) pairs.push(k);
    }
    return pairs;
  }

  function total(fold, at) { return fold.reduce(function (sum, patient) { return sum + patient[at]; }, 0); }

  // hits[fold][patient] = [hit, cycles, hit, cycles...], a pair a group of cycles; a rate over no cycle is 0.
  statistics.score = function (hits, metric) {
    return mean(hits.map(function (fold) {
      return combined(pairsOf(fold, metric).map(function (k) {
        return total(fold, k) / Math.max(total(fold, k + 1), 1);
      }), metric);
    }));
  };

  // The metric of `a` minus that of `b` over the same resamples of patients, drawn within each fold; a fold whose
  // resample lacks a group of cycles is left out of that resample's mean.
  statistics.compare = function (a, b, resamples, seed, metric) {
    var random = statistics.generator(seed), found = [];
    var folds = a.map(function (fold, f) {
      var one = pairsOf(fold, metric), two = pairsOf(b[f], metric), groups = metric.indexOf("sprsound") === 0 ? 2 : one.length;
      var width = groups + one.length + two.length, flat = new Float64Array(fold.length * width);
      fold.forEach(function (patient, p) {
        flat.set(one.slice(0, groups).map(function (k) { return patient[k + 1]; })
          .concat(one.map(function (k) { return patient[k]; }), two.map(function (k) { return b[f][p][k]; })), p * width);
      });
      return { patients: fold.length, groups: groups, one: one.length, two: two.length, width: width, counts: flat };
    });
    for (var r = 0; r < resamples; r++) {
      var sum = 0, used = 0;
      for (var f = 0; f < folds.length; f++) {
        var difference = resampled(folds[f], random, metric);
        if (difference === null) continue;
        sum += difference;
        used++;
      }
      if (used) found.push(sum / used);
    }
    var all = statistics.score(a, metric) - statistics.score(b, metric);
    if (found.length * 2 < resamples || !found.length) return { mean: all, low: null, high: null };
    found.sort(function (x, y) { return x - y; });
    return { mean: all, low: statistics.percentile(found, 2.5), high: statistics.percentile(found, 97.5) };
  };

  // The difference over as many patients of a fold, drawn again; null where a group has no cycle.
  function resampled(fold, random, metric) {
    var sums = new Float64Array(fold.width), n = fold.patients, groups = fold.groups;
    for (var draw = 0; draw < n; draw++) {
      var at = Math.floor(random() * n) * fold.width;
      for (var k = 0; k < fold.width; k++) sums[k] += fold.counts[at + k];
    }
    for (var group = 0; group < groups; group++) if (sums[group] === 0) return null;
    var rates = function (from, count) {
      var made = [];
      for (var pair = 0; pair < count; pair++) made.push(sums[from + pair] / sums[pair % groups]);
      return made;
    };
    return combined(rates(groups, fold.one), metric) - combined(rates(groups + fold.one, fold.two), metric);
  }

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
