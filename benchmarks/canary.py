"""What the trial of a challenger decides: how often it aborts one that is as good, and how soon one that is not.

The code that decides is the platform's own (``airworthy.delivery.canary.Step``), with the steps and bounds of the default
``delivery`` section: shadow, then 5, 25 and 50 % of the requests. The traffic is simulated by seed; what its requests are made of was
measured in this process just before: two models are really fitted and released (the second one with another seed and other
rows: a retrained one), and each scores the same held-out rows one by one. Their times, scores and labels are what the traffic
draws from. Both releases fail one request in a hundred by themselves.

A/A: both arms draw from the champion's own times and scores. Retrained: the challenger draws from its own. Faults: errors in
one request of five, three times the model time, NaN, a model that was fitted to flipped labels (its labels come in at once),
and one that crashes when it is loaded. "N" is the 95th percentile of the requests that the challenger was asked before it was
aborted (in the shadow nobody saw an answer of it).

All of it under three kinds of traffic: a look after every 50 requests, each timed; a look after every 500; and the same where
workers answer 16 requests together and time the first of them. The figures are the worst of the three. That both releases
are timed under the same conditions is held by a test on the real service (``test_a_model_is_not_found_slower_than_itself``).

    make bench BENCH=canary
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

AIM_FALSE, AIM_FOUND = 0.05, 0.95
OWN_ERRORS = 0.01
FAULTS = ("errors", "slow", "nan", "worse", "crash at load")
# Requests between two looks, and requests that a worker answers together.
TRAFFIC = {"calm": (50, 1), "busy": (500, 1), "busy, answered together": (500, 16)}


@dataclass(frozen=True)
class Measured:
    """What one release did with the held-out rows: buckets of its model time, and whether its decision cost."""

    buckets: Any
    losses: Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--equal", type=int, default=400, help="seeds of A/A")
    parser.add_argument("--seeds", type=int, default=100, help="seeds of a retrained challenger, and of each fault")
    parser.add_argument("--rows", type=int, default=2000, help="held-out rows that are really scored")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aw-canary-") as folder:
        champion, retrained, flipped, milliseconds = measure(folder, arguments.rows)
    print(json.dumps(trials(champion, retrained, flipped, milliseconds, arguments)))


def measure(folder: str, rows: int) -> tuple[Measured, Measured, Measured, dict[str, float]]:
    """Fit three models, and score the same rows with each, one request at a time and in turn."""
    import pyarrow as pa

    from airworthy.delivery.seen import costs
    from airworthy.ledger.tallies import bucket
    from airworthy.training import model_files
    from airworthy.training.building import fit_estimator

    rng = np.random.default_rng(11)
    names = [f"x{i}" for i in range(12)]

    def sample(count: int) -> tuple[Any, Any]:
        values = rng.normal(size=(count, len(names)))
        chance = 1 / (1 + np.exp(1.0 - 1.5 * values[:, 0] + values[:, 1] * values[:, 2] - 0.8 * values[:, 3]))
        return pa.table(dict(zip(names, values.T, strict=True))), rng.random(count) < chance

    def fitted(seed: int, *, flip: bool = False) -> Any:
        table, labels = sample(6000)
        columns = dict.fromkeys(names, "float64")
        estimator, encoder, _ = fit_estimator(
            table, labels != flip, columns, "sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 80}, seed
        )
        digest, place = model_files.write_model(
            folder, estimator=estimator, encoder=encoder, golden=model_files.golden_features(table, columns), card={},
            schema=model_files.ModelSchema(use_case="bench", feature_service="bench_v1", feature_digest="b", columns=columns),
        )  # fmt: skip
        return model_files.load(place, digest)

    models = [fitted(1), fitted(2), fitted(3, flip=True)]
    table, labels = sample(rows)
    requests = table.to_pylist()
    for model in models:
        for request in requests[:50]:
            model.predict([request])
    took = np.empty((3, rows))
    scores = np.empty((3, rows))
    for i, request in enumerate(requests):
        for j, model in enumerate(models):
            started = time.perf_counter()
            scores[j, i] = model.predict([request])[0]
            took[j, i] = 1000 * (time.perf_counter() - started)
    problem = _problem()
    ids = [f"{rng.integers(0, 2**63):032x}"[::-1] for _ in range(rows)]
    decided = scores >= problem.threshold
    lost = [[costs(problem, *row) for row in zip(ids, map(bool, d), map(bool, labels), strict=True)] for d in decided]
    milliseconds = {"p50_ms": float(np.median(took[0])), "p90_ms": float(np.quantile(took[0], 0.9))}
    buckets = [np.array([bucket(ms) for ms in t]) for t in took]
    slow = np.array([bucket(3 * ms) for ms in took[0]])
    made = [Measured(b, np.array(x)) for b, x in zip(buckets, lost, strict=True)]
    made[0] = Measured(np.stack([buckets[0], slow]), made[0].losses)
    return made[0], made[1], made[2], milliseconds


def _problem() -> Any:
    from airworthy.config.data_spec import Problem

    return Problem(
        type="binary_classification", decision="d", users="u", label="l", cost_false_alarm=1, cost_miss=3
    )  # fmt: skip


class Traffic:
    """Requests of one delivery, by seed; what each arm did since the beginning of the step."""

    def __init__(self, kind: str, seed: int, champion: Measured, challenger: Measured, fault: str) -> None:
        self.rng, self.champion, self.challenger, self.fault = np.random.default_rng(seed), champion, challenger, fault
        self.look, self.group = TRAFFIC[kind]
        self.asked = 0

    def begin(self, bounds: int) -> None:
        """A new step: a new generation, and its counts begin at zero."""
        self.counts = {ours: {"requests": 0, "errors": 0, "labelled": 0, "losses": 0} for ours in (True, False)}
        self.times = {ours: np.zeros(bounds + 1, dtype=int) for ours in (True, False)}

    def send(self, share: float) -> None:
        """The requests until the next look; in the shadow (share 0) both score every one."""
        requests, groups = self.look, self.look // self.group
        ours = requests if share == 0 else int(self.rng.binomial(requests, share))
        # One request of each group is timed: the model's to whom the first one falls; in the shadow it is drawn.
        timed = int(self.rng.binomial(groups, share or 0.5)) if self.group > 1 or share == 0 else ours
        self._count(True, ours, timed)
        self._count(False, requests if share == 0 else requests - ours, groups - timed)
        self.asked += ours

    def _count(self, ours: bool, requests: int, timed: int) -> None:
        counts, measured = self.counts[ours], self.challenger if ours else self.champion
        rate = OWN_ERRORS + (0.2 if ours and self.fault == "errors" else 1.0 if ours and self.fault == "nan" else 0)
        failed = int(self.rng.binomial(requests, min(rate, 1.0)))
        good = requests - failed
        buckets = measured.buckets
        if buckets.ndim == 2:
            buckets = buckets[1 if ours and self.fault == "slow" else 0]
        self.times[ours] += np.bincount(self.rng.choice(buckets, min(good, timed)), minlength=self.times[ours].size)
        counts["requests"] += requests
        counts["errors"] += failed
        counts["labelled"] += good
        counts["losses"] += int(self.rng.choice(measured.losses, good).sum())

    def seen(self) -> Any:
        from airworthy.delivery.canary import Arm, Seen

        arms = {ours: Arm(times=tuple(self.times[ours].tolist()), **self.counts[ours]) for ours in (True, False)}
        problem = "worker bench/1: it crashed" if self.fault == "crash at load" else ""
        return Seen(arms[True], arms[False], problem=problem)


def deliver(traffic: Traffic) -> str:
    """The whole trial; ``promote``, or why it was aborted."""
    from airworthy.config.operations_spec import Delivery
    from airworthy.delivery.canary import Step
    from airworthy.ledger.tallies import BUCKETS_MS

    spec = Delivery()
    for share in spec.phases:
        step = Step(spec, BUCKETS_MS)
        traffic.begin(len(BUCKETS_MS))
        kind, looks = "hold", 0
        while kind == "hold":
            traffic.send(share)
            looks += 1
            decision = step.look(traffic.seen(), float(looks))
            kind = decision.kind
        if kind != "go on":
            return decision.words
    return "promote"


def trials(
    champion: Measured, retrained: Measured, flipped: Measured, ms: dict[str, float], arguments: Any
) -> dict[str, Any]:
    def aborted(challenger: Measured, seeds: int) -> dict[str, float]:
        def count(kind: str) -> int:
            return sum(deliver(Traffic(kind, s, champion, challenger, "")) != "promote" for s in range(seeds))

        return {kind: count(kind) / seeds for kind in TRAFFIC}

    equal, other = aborted(champion, arguments.equal), aborted(retrained, arguments.seeds)
    found, within, cause = {}, {}, {}
    for fault in FAULTS:
        shares, asked, words = [], [], set()
        for kind in TRAFFIC:
            seen = [
                Traffic(kind, 10_000 + seed, champion, flipped if fault == "worse" else champion, fault)
                for seed in range(arguments.seeds)
            ]
            ends = [deliver(traffic) for traffic in seen]
            aborts = [(t.asked, end.partition(":")[0]) for t, end in zip(seen, ends, strict=True) if end != "promote"]
            shares.append(len(aborts) / arguments.seeds)
            asked += [int(np.quantile([n for n, _ in aborts], 0.95))] if aborts else []
            words |= {word for _, word in aborts}
        found[fault], within[fault], cause[fault] = min(shares), max(asked, default=None), sorted(words)
    value = max(equal.values())
    met = value <= AIM_FALSE and min(found.values()) >= AIM_FOUND
    return {
        "name": "canary", "metric": "share of A/A deliveries that abort", "value": value, "reference": AIM_FALSE,
        "reference_is": "delivery.max_false_abort, the bound that the method promises", "aim": AIM_FALSE, "met": met,
        "equal_aborted": equal, "retrained_aborted": other, "faults_found": found, "found_within_requests": within,
        "found_by": cause, "seeds_equal": arguments.equal, "seeds_fault": arguments.seeds, "traffic": TRAFFIC,
        "model": {name: round(value, 4) for name, value in ms.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
