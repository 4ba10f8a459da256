// Numbers that carry their derivatives with respect to every score: forward-mode differentiation.
class Dual {
  constructor(value, slopes) { this.value = value; this.slopes = slopes; }

  // f(this) with the derivative of f there.
  map(value, slope) { return new Dual(value, this.slopes.map((one) => one * slope)); }
  plus(other) {
    if (typeof other === "number") return new Dual(this.value + other, this.slopes);
    return new Dual(this.value + other.value, this.slopes.map((one, place) => one + other.slopes[place]));
  }
  times(other) {
    if (typeof other === "number") return this.map(this.value * other, other);
    const slopes = this.slopes.map((one, place) => one * other.value + this.value * other.slopes[place]);
    return new Dual(this.value * other.value, slopes);
  }
  minus(other) { return this.plus(typeof other === "number" ? -other : other.times(-1)); }
  inverse() { return this.map(1 / this.value, -1 / this.value ** 2); }
  over(other) { return this.times(typeof other === "number" ? 1 / other : other.inverse()); }
  square() { return this.map(this.value ** 2, 2 * this.value); }
  root() { return this.map(Math.sqrt(this.value), 0.5 / Math.sqrt(this.value)); }
  exp() { const value = Math.exp(this.value); return this.map(value, value); }
  log() { return this.map(Math.log(this.value), 1 / this.value); }
  relu() { return this.value > 0 ? this : this.map(0, 0); }
  sigmoid() { const value = sigmoid(this.value); return this.map(value, value * (1 - value)); }
  softplus() { return this.map(Math.max(this.value, 0) + Math.log1p(Math.exp(-Math.abs(this.value))), sigmoid(this.value)); }
}

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

const sum = (duals) => duals.reduce((total, one) => total.plus(one));
const mean = (duals) => sum(duals).over(duals.length);

function logSumExp(duals) {
  const top = Math.max(...duals.map((one) => one.value)); // a constant: the result does not depend on it
  return sum(duals.map((one) => one.minus(top).exp())).log().plus(top);
}

// Plain numbers as duals, each the variable of its own place, or constants.
const variables = (values) => values.map((value, place) => new Dual(value, values.map((_, other) => (other === place ? 1 : 0))));
const constants = (values) => values.map((value) => new Dual(value, values.map(() => 0)));

// Value and gradient of a loss at scores: {value, gradient}.
function differentiate(loss, scores, targets) {
  const result = loss(variables(scores), targets);
  return { value: result.value, gradient: result.slopes };
}

// Scores at every one of 1,000 steps of Adam on the scores themselves, as lib.losses.descent.
function descend(loss, scores, targets, steps = 1000, rate = 0.05) {
  const path = [scores];
  const first = scores.map(() => 0), second = scores.map(() => 0);
  for (let step = 1; step <= steps; step++) {
    const { gradient } = differentiate(loss, path.at(-1), targets);
    path.push(path.at(-1).map((score, place) => {
      first[place] = 0.9 * first[place] + 0.1 * gradient[place];
      second[place] = 0.999 * second[place] + 0.001 * gradient[place] ** 2;
      const size = Math.sqrt(second[place]) / Math.sqrt(1 - 0.999 ** step) + 1e-8;
      return score - ((rate / (1 - 0.9 ** step)) * first[place]) / size;
    }));
  }
  return path;
}
