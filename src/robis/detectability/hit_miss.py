"""Probability of detection from hits and misses: the analysis of MIL-HDBK-1823A (2009), appendix G.

The logit of the probability of detection (POD) is a straight line in the logarithm of the size. Bounds come from the
likelihood ratio, as in the handbook, after Cheng and Iles (Technometrics 25, 1983, and 30, 1988).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import statsmodels.api as sm
from scipy.optimize import brentq
from scipy.special import expit, log_expit
from scipy.stats import chi2

CONFIDENCE = 0.95
# Of the likelihood ratio with one degree of freedom, for both bounds together. The one for a single bound (2.71) has
# its confidence in large samples alone: with 64 defects 93 % of such bounds hold, with this one 97 %.
CRITICAL = float(chi2.ppf(CONFIDENCE, 1))
# A bound this many times above or below the size that it is of is no bound.
FARTHEST = 1e6
# Where a probability counts as 0 or 1.
FARTHEST_LOGIT = 20.0
# Slope of a curve that is a step.
STEEPEST = 1e4


def logit(probability: float) -> float:
    """The logarithm of the odds."""
    return float(np.log(probability / (1 - probability)))


@dataclass(frozen=True, eq=False)
class HitMiss:
    """Hits and misses by size.

    Attributes:
        sizes: float64 (N,), ascending, above 0.
        hits, misses: int64 (N,), numbers of defects of each size that are found and missed.
    """

    sizes: np.ndarray
    hits: np.ndarray
    misses: np.ndarray

    @classmethod
    def of(cls, sizes: np.ndarray, hits: np.ndarray) -> HitMiss:
        """Count trials: float (M,) sizes and bool (M,) whether each was a hit."""
        distinct, place = np.unique(np.asarray(sizes, np.float64), return_inverse=True)
        trials = np.bincount(place)
        detected = np.bincount(place, weights=hits).astype(np.int64)
        return cls(distinct, detected, trials - detected)

    @cached_property
    def is_separated(self) -> bool:
        """Whether a size parts all hits from all misses, or there are no hits or no misses: no curve can be fitted."""
        hit, missed = self.sizes[self.hits > 0], self.sizes[self.misses > 0]
        return not len(hit) or not len(missed) or missed.max() <= hit.min() or hit.max() <= missed.min()


class Logistic:
    """A fitted curve: logit POD(a) = intercept + slope * log(a).

    Attributes:
        data: what it was fitted to.
        intercept, slope: the coefficients of the maximum likelihood.
    """

    def __init__(self, data: HitMiss) -> None:
        """Fit the curve. Raises ValueError where the data are separated, so that no maximum exists."""
        if data.is_separated:
            raise ValueError("hits and misses are separated")
        self.data = data
        self._log_sizes = np.log(data.sizes)
        counts = np.stack([data.hits, data.misses], axis=1)
        with warnings.catch_warnings():
            # Of probabilities that round to 0 or 1.
            warnings.simplefilter("ignore")
            fit = sm.GLM(counts, sm.add_constant(self._log_sizes), family=sm.families.Binomial()).fit(scale=1.0)
        self.intercept, self.slope = fit.params.tolist()
        self._deviance = self._deviance_of(self.intercept + self.slope * self._log_sizes)
        share = data.hits.sum() / counts.sum()
        self._deviance_without_slope = self._deviance_of(np.full(len(counts), logit(share)))

    def pod(self, sizes: np.ndarray) -> np.ndarray:
        """Probability of detection, float64 (N,), of sizes (N,)."""
        return 1 / (1 + np.exp(-(self.intercept + self.slope * np.log(sizes))))

    def size_at(self, probability: float) -> float:
        """The size that is found with this probability: 0.5 gives a50, 0.9 gives a90."""
        return float(np.exp((logit(probability) - self.intercept) / self.slope))

    def size_bound(self, probability: float) -> float | None:
        """The upper bound of `size_at` at CONFIDENCE: 0.9 gives a90/95; None where there is no finite one."""
        if self.slope <= 0 or self._deviance_without_slope - self._deviance <= CRITICAL:
            return None
        start = float(np.log(self.size_at(probability)))
        level = logit(probability)
        bound = _crossing(lambda step: self._ratio(start + step, level), float(np.log(FARTHEST)))
        return None if bound is None else float(np.exp(start + bound))

    def pod_bounds(self, size: float) -> tuple[float, float]:
        """Lower and upper bound of POD(size), each at CONFIDENCE."""
        at = float(np.log(size))
        level = self.intercept + self.slope * at
        below = _crossing(lambda step: self._ratio(at, level - step), level + FARTHEST_LOGIT)
        above = _crossing(lambda step: self._ratio(at, level + step), FARTHEST_LOGIT - level)
        lower = 0.0 if below is None else 1 / (1 + np.exp(below - level))
        upper = 1.0 if above is None else 1 / (1 + np.exp(-level - above))
        return float(lower), float(upper)

    def _ratio(self, log_size: float, level: float) -> float:
        """Likelihood ratio statistic of curves through a point: what they deviate more than the best one."""
        x = self._log_sizes - log_size
        hits, trials = self.data.hits, self.data.hits + self.data.misses

        def score(slope: float) -> float:
            return float((x * (hits - trials * expit(level + slope * x))).sum())

        # It falls with the slope. Fitting again with a fixed point may not converge where curves are steep.
        low, high = -1.0, 1.0
        while score(low) < 0 and low > -STEEPEST:
            low *= 2
        while score(high) > 0 and high < STEEPEST:
            high *= 2
        slope = brentq(score, low, high) if score(low) > 0 > score(high) else (high if score(high) >= 0 else low)
        return max(0.0, self._deviance_of(level + slope * x) - self._deviance)

    def _deviance_of(self, logits: np.ndarray) -> float:
        """Minus twice the logarithm of the likelihood of the hits and misses, given the logit of each size."""
        return -2 * float((self.data.hits * log_expit(logits) + self.data.misses * log_expit(-logits)).sum())


def _crossing(ratio: Callable[[float], float], farthest: float) -> float | None:
    """The step above 0 at which a rising statistic reaches CRITICAL; None where it does not before `farthest`."""
    step = min(0.1, farthest / 2)
    while step < farthest:
        if ratio(step) >= CRITICAL:
            return float(brentq(lambda at: ratio(at) - CRITICAL, 0.0, step, xtol=1e-6))
        step *= 2
    return None


def proven_size(data: HitMiss, probability: float = 0.9) -> float | None:
    """The smallest size whose POD is at least `probability` with CONFIDENCE by counting alone; None for no size.

    Of a size it takes the defects of that size, with those of the next smaller sizes as far as they are needed, which
    are not easier to find where POD rises with the size. If POD were lower, n hits of n had at most the probability
    0.9**n: 29 of 29 are needed. Sizes are tried from the largest down, up to the first that is not proven, so that
    trying several does not lower the confidence.
    """
    needed = int(np.ceil(np.log(1 - CONFIDENCE) / np.log(probability)))
    proven = None
    for last in range(len(data.sizes) - 1, -1, -1):
        behind = np.cumsum((data.hits + data.misses)[last::-1])
        if behind[-1] < needed:
            break
        first = last - int(np.argmax(behind >= needed))
        if data.misses[first : last + 1].any():
            break
        proven = float(data.sizes[last])
    return proven
