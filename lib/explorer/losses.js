// The losses of lib.losses with their default parameters: (scores as duals, targets as numbers) -> a dual. A test
// compares each of them with the library.
const differences = (list) => list.slice(1).map((one) => list[0].minus(one)); // the positive minus each negative
const gaps = (list) => list.slice(1).map((one) => list[0] - one);

// cost(s_i - s_j) averaged over the pairs that the targets put in order.
function orderedPairs(scores, targets, cost) {
  const costs = [];
  for (let i = 0; i < scores.length; i++) {
    for (let j = 0; j < scores.length; j++) if (targets[i] > targets[j]) costs.push(cost(scores[i].minus(scores[j])));
  }
  return costs.length ? mean(costs) : scores[0].times(0);
}

// Student and teacher as logarithms of their softmaxes at a temperature.
function logSoftmaxes(scores, targets, temperature) {
  return [scores, constants(targets)].map((list) => {
    const scaled = list.map((one) => one.over(temperature));
    const total = logSumExp(scaled);
    return scaled.map((one) => one.minus(total));
  });
}

// KL(p || q) of two lists of logarithms.
const divergence = (p, q) => sum(p.map((one, place) => one.exp().times(one.minus(q[place]))));

function kl(scores, targets, temperature = 1) {
  const [student, teacher] = logSoftmaxes(scores, targets, temperature);
  return divergence(teacher, student).times(temperature ** 2);
}

const approximateRanks = (scores) => scores.map((own) => sum(scores.map((other) => other.minus(own).sigmoid())).plus(0.5));

// Ranks from 1; equal targets share the mean of theirs.
const trueRanks = (targets) => targets.map((own) =>
  targets.filter((other) => other > own).length + (targets.filter((other) => other === own).length + 1) / 2);

// -log p of each document being drawn before all those with no higher target.
const plackettLuce = (scores, targets) => scores.map((own, i) =>
  logSumExp(scores.filter((_, j) => targets[j] <= targets[i])).minus(own));

const gainsOf = (targets) => targets.map((grade) => 2 ** Math.max(grade, 0) - 1);
const idealDcg = (gains) => [...gains].sort((a, b) => b - a).reduce((total, gain, place) => total + gain / Math.log2(place + 2), 0);

function lambdaLoss(scores, targets) {
  const order = scores.map((_, place) => place).sort((a, b) => scores[b].value - scores[a].value || a - b);
  const grades = order.map((place) => targets[place]);
  const best = idealDcg(grades.map((grade) => 2 ** grade - 1));
  const gains = grades.map((grade) => (best > 0 ? (2 ** grade - 1) / best : 0));
  const discount = (rank) => 1 / Math.log2(1 + rank);
  let total = scores[0].times(0);
  for (let i = 0; i < order.length; i++) {
    for (let j = 0; j < order.length; j++) {
      if (grades[i] <= grades[j]) continue;
      const gap = Math.abs(i - j);
      const change = Math.abs(gains[i] - gains[j]);
      const ndcg2 = Math.abs(discount(gap) - discount(gap + 1)) * change;
      const lambdaRank = Math.abs(discount(i + 1) - discount(j + 1)) * change;
      const bits = scores[order[j]].minus(scores[order[i]]).softplus().over(Math.LN2);
      total = total.plus(bits.times(10 * ndcg2 + lambdaRank));
    }
  }
  return total;
}

function pearson(scores, targets) {
  const center = mean(scores);
  const student = scores.map((one) => one.minus(center));
  const middle = targets.reduce((a, b) => a + b) / targets.length;
  const teacher = targets.map((one) => one - middle);
  const length = Math.sqrt(teacher.reduce((total, one) => total + one ** 2, 0));
  const squares = sum(student.map((one) => one.square()));
  if (Math.sqrt(squares.value) < 1e-8 || length < 1e-8) return scores[0].times(0).plus(1);
  const product = sum(student.map((one, place) => one.times(teacher[place])));
  return product.over(squares.root().times(length)).times(-1).plus(1);
}

const LOSSES = {
  info_nce: (s, t) => logSumExp(s).minus(logSumExp(s.filter((_, place) => t[place] > 0))),
  bce: (s, t) => mean(s.map((one, place) => one.softplus().minus(one.times(t[place])))),
  hinge: (s, t) => orderedPairs(s, t, (margin) => margin.times(-1).plus(1).relu()),
  ranknet: (s, t) => orderedPairs(s, t, (margin) => margin.times(-1).softplus()),
  lambda_loss: lambdaLoss,
  list_mle: (s, t) => sum(plackettLuce(s, t)),
  position_list_mle: (s, t) => {
    const weights = trueRanks(t).map((rank) => 2 ** (s.length - rank) - 1);
    const total = weights.reduce((a, b) => a + b);
    return sum(plackettLuce(s, t).map((one, place) => one.times(weights[place] / total)));
  },
  approx_ndcg: (s, t) => {
    const gains = gainsOf(t);
    const ideal = idealDcg(gains);
    if (!(ideal > 0)) return s[0].times(0);
    const dcg = sum(approximateRanks(s).map((rank, place) => rank.plus(1).log().over(Math.LN2).inverse().times(gains[place])));
    return dcg.over(-ideal).plus(1);
  },
  smooth_mrr: (s, t) => {
    const own = approximateRanks(s).filter((_, place) => t[place] > 0);
    if (!own.length) return s[0].times(0).plus(1);
    return own.reduce((best, rank) => (rank.value < best.value ? rank : best)).inverse().times(-1).plus(1);
  },
  kl,
  reverse_kl: (s, t) => { const [student, teacher] = logSoftmaxes(s, t, 1); return divergence(student, teacher); },
  jensen_shannon: (s, t) => {
    const [student, teacher] = logSoftmaxes(s, t, 1);
    const mixture = student.map((one, place) => logSumExp([one, teacher[place]]).minus(Math.LN2));
    return divergence(teacher, mixture).plus(divergence(student, mixture)).over(2);
  },
  margin_mse: (s, t) => mean(differences(s).map((margin, place) => margin.minus(gaps(t)[place]).square())),
  mse: (s, t) => mean(s.map((one, place) => one.minus(t[place]).square())),
  pearson,
  list_net: (s, t) => {
    const [student, teacher] = logSoftmaxes(s, t, 1);
    return sum(student.map((one, place) => one.times(-Math.exp(teacher[place].value))));
  },
  weighted_ranknet: (s, t) => mean(differences(s).map((margin, place) => margin.times(-1).softplus().times(gaps(t)[place]))),
  bounded_weighted_ranknet: (s, t) => mean(differences(s).map((margin, place) => {
    const weight = gaps(t)[place];
    return margin.times(-Math.sign(weight)).softplus().times(Math.abs(weight));
  })),
  adr_mse: (s, t) => {
    const ranks = trueRanks(t);
    return mean(approximateRanks(s).map((rank, place) => rank.minus(ranks[place]).square().over(Math.log2(1 + ranks[place]))));
  },
  gist: (s, t) => logSumExp(s.filter((_, place) => place === 0 || t[place] <= t[0])).minus(s[0]),
};
