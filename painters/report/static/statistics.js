// Paired statistics of two plans on the same documents. No part of this touches the page.

const SEED = 2407; // of the bootstrap, the same for every comparison
const DRAWS = 2000;

// Whole numbers from 0 to 2^32 - 1, always the same ones for one seed (Marsaglia's xorshift).
function numbers(seed) {
  let state = (seed ^ 0x9e3779b9) | 0 || 1;
  function next() {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  }
  for (let turn = 0; turn < 16; turn += 1) next(); // small seeds begin with small numbers
  return next;
}

function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

// The value of a metric from the outcomes of its documents.
function aggregate(aggregation, outcomes) {
  return aggregation === "perplexity" ? Math.exp(-mean(outcomes)) : mean(outcomes);
}

// The standard error of the difference of two values on the same documents, to first order for perplexity; null for
// fewer than two documents.
function pairedError(aggregation, one, other) {
  const n = one.length;
  if (n < 2) return null;
  const scale = aggregation === "perplexity" ? [aggregate(aggregation, one), aggregate(aggregation, other)] : [-1, -1];
  const shares = Array.from(one, (value, place) => scale[1] * other[place] - scale[0] * value);
  const middle = mean(shares);
  let sum = 0;
  for (const share of shares) sum += (share - middle) ** 2;
  return Math.sqrt(sum / (n - 1) / n);
}

// A percentile of sorted values, on the line between its two neighbours.
function percentile(sorted, share) {
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

// The 95 % interval of the difference: Tango's for outcomes of 0 and 1, a bootstrap's for others. Null where nothing is
// known of the spread. painters.results.scoring computes the same.
function pairedInterval(aggregation, one, other, draws = DRAWS, seed = SEED) {
  const n = one.length;
  if (n < 2) return null;
  const test = aggregation === "mean" ? mcnemar(one, other) : null;
  if (test) return tango(test.first, test.second, n);
  if (one.every((value, place) => value - other[place] === one[0] - other[0])) return null;
  return bootstrap(aggregation, one, other, draws, seed);
}

// The differences that are 1.96 standard errors, of such a difference, from the one observed.
function tango(first, second, n) {
  const observed = (first - second) / n;
  function distance(difference) {
    const linear = (2 * n - first + second) * difference - first - second;
    const root = Math.sqrt(Math.max(0, linear ** 2 + 8 * n * second * difference * (1 - difference)));
    const variance = ((root - linear) / (2 * n) + difference * (1 - difference)) / n;
    return variance > 0 ? Math.abs(observed - difference) / Math.sqrt(variance) : Infinity;
  }
  function limit(end) {
    let [inside, outside] = [observed, end];
    for (let turn = 0; turn < 60; turn += 1) {
      const middle = (inside + outside) / 2;
      if (distance(middle) < 1.96) inside = middle;
      else outside = middle;
    }
    return outside;
  }
  return [observed > -1 ? limit(-1) : -1, observed < 1 ? limit(1) : 1];
}

// What 95 % of the differences lie between when the documents are drawn again and again, the same ones for both plans.
function bootstrap(aggregation, one, other, draws, seed) {
  const n = one.length;
  const next = numbers(seed);
  const found = new Float64Array(draws);
  for (let draw = 0; draw < draws; draw += 1) {
    let first = 0;
    let second = 0;
    for (let turn = 0; turn < n; turn += 1) {
      const document = Math.floor((next() / 4294967296) * n);
      first += one[document];
      second += other[document];
    }
    found[draw] =
      aggregation === "perplexity" ? Math.exp(-first / n) - Math.exp(-second / n) : first / n - second / n;
  }
  found.sort();
  return [percentile(found, 0.025), percentile(found, 0.975)];
}

// Of outcomes that are 0 or 1: how many documents only the first plan gets right, how many only the other, and McNemar's
// exact two-sided p. Null for other outcomes.
function mcnemar(one, other) {
  let first = 0;
  let second = 0;
  for (let place = 0; place < one.length; place += 1) {
    const [a, b] = [one[place], other[place]];
    if ((a !== 0 && a !== 1) || (b !== 0 && b !== 1)) return null;
    if (a > b) first += 1;
    if (b > a) second += 1;
  }
  const apart = first + second;
  let logarithm = apart * Math.log(0.5);
  let tail = 0;
  for (let k = 0; k <= Math.min(first, second); k += 1) {
    tail += Math.exp(logarithm);
    logarithm += Math.log((apart - k) / (k + 1));
  }
  return { first, second, p: first === second ? 1 : Math.min(1, 2 * tail) };
}

function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
