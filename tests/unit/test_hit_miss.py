"""Probability of detection from hits and misses: published numbers, independent likelihoods, coverage, and words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from robis.detectability.hit_miss import HitMiss, Logistic, proven_size
from robis.detectability.verdict import Detectability, sentence, size_in_words

# Bliss (1935), The calculation of the dosage-mortality curve: log10 of the dose of CS2, beetles, beetles killed.
BLISS = [
    *((1.6907, 59, 6), (1.7242, 60, 13), (1.7552, 62, 18), (1.7842, 56, 28)),
    *((1.8113, 63, 52), (1.8369, 59, 53), (1.8610, 62, 61), (1.8839, 60, 60)),
]
SIZES = np.repeat(np.geomspace(2, 64, 8), 8)


def counted(*rows: tuple[float, int, int]) -> HitMiss:
    """From (size, hits, misses)."""
    sizes, hits, misses = zip(*rows, strict=True)
    return HitMiss(np.array(sizes, float), np.array(hits), np.array(misses))


@pytest.fixture(scope="module")
def beetles() -> Logistic:
    return Logistic(counted(*((10**dose, killed, number - killed) for dose, number, killed in BLISS)))


def test_published_coefficients_of_a_logistic_regression(beetles: Logistic) -> None:
    """Dobson and Barnett, An introduction to generalized linear models, section 7.3: -60.72 and 34.27."""
    assert beetles.intercept == pytest.approx(-60.717, abs=2e-3)
    assert beetles.slope * np.log(10) == pytest.approx(34.270, abs=1e-3)
    assert np.log10(beetles.size_at(0.5)) == pytest.approx(60.717 / 34.270, abs=1e-4)
    assert np.log10(beetles.size_at(0.9)) == pytest.approx((60.717 + np.log(9)) / 34.270, abs=1e-4)


def negative_log_likelihood(data: HitMiss, intercept: float, slope: float) -> float:
    logits = intercept + slope * np.log(data.sizes)
    return float(np.sum(data.hits * np.logaddexp(0, -logits) + data.misses * np.logaddexp(0, logits)))


def profile(data: HitMiss, size: float, probability: float) -> float:
    """Likelihood ratio of POD(size) == probability, by SciPy's optimizers."""
    level = np.log(probability / (1 - probability))
    best = minimize(
        lambda at: negative_log_likelihood(data, *at), [0, 1], method="Nelder-Mead", options={"fatol": 1e-9}
    )
    through = minimize_scalar(
        lambda slope: negative_log_likelihood(data, level - slope * np.log(size), slope), (0, 2), tol=1e-10
    )
    return 2 * (through.fun - best.fun)


MIXED = counted((2, 0, 8), (4, 2, 6), (8, 3, 5), (16, 7, 1), (32, 8, 0))


def test_the_bound_of_a90_is_where_an_independent_likelihood_ratio_reaches_its_quantile() -> None:
    curve = Logistic(MIXED)
    bound = curve.size_bound(0.9)
    assert bound is not None and bound > curve.size_at(0.9)
    # The square of the normal distribution's 0.975 quantile.
    assert profile(MIXED, bound, 0.9) == pytest.approx(1.959964**2, abs=1e-4)


def test_bounds_of_pod_cross_90_percent_at_the_bound_of_a90() -> None:
    curve = Logistic(MIXED)
    lower, upper = curve.pod_bounds(16.0)
    assert lower < curve.pod(np.array(16.0)) < upper
    assert [profile(MIXED, 16.0, bound) for bound in (lower, upper)] == pytest.approx([1.959964**2] * 2, abs=1e-4)
    assert curve.pod_bounds(curve.size_bound(0.9) or 0)[0] == pytest.approx(0.9, abs=1e-6)


def test_a_symmetric_case_by_hand() -> None:
    """Hits and misses mirror each other about 4, and 1 of 4 at 2 against 3 of 4 at 8 fix the slope: logit 3 / log 2."""
    curve = Logistic(counted((2, 1, 3), (8, 3, 1)))
    assert curve.size_at(0.5) == pytest.approx(4)
    assert curve.slope == pytest.approx(np.log(3) / np.log(2))
    # 4 * 9**(1 / slope) = 4 * 2**2
    assert curve.size_at(0.9) == pytest.approx(16)


def test_a90_95_covers_the_true_a90_at_least_as_often_as_it_says() -> None:
    """With 64 defects."""
    rng = np.random.default_rng(11)
    true = 1 / (1 + np.exp(-3 * (np.log(SIZES) - np.log(12))))
    true_a90 = 12 * 9 ** (1 / 3)
    draws = [Detectability.of(HitMiss.of(SIZES, rng.random(len(SIZES)) < true)) for _ in range(500)]
    covered = np.mean([draw.a90_95 is None or draw.a90_95 >= true_a90 for draw in draws])
    assert 0.95 <= covered < 1


def test_29_of_29_hits_prove_90_percent() -> None:
    assert proven_size(counted((5, 29, 0))) == 5
    assert proven_size(counted((5, 28, 0))) is None
    # 10 + 10 + 10 of the three smallest sizes that are always found.
    data = counted((2, 0, 10), (4, 10, 0), (8, 10, 0), (16, 10, 0), (32, 10, 0))
    assert proven_size(data) == 16
    # A miss among the 29 nearest spoils it: the sizes behind it are not asked.
    assert proven_size(counted((4, 10, 0), (8, 9, 1), (16, 29, 0))) == 16
    assert proven_size(counted((8, 29, 0), (16, 28, 1))) is None


@pytest.mark.parametrize(
    ("data", "method", "said"),
    [
        (
            MIXED,
            "logistic",
            "no size of stains up to 32 px (1.6 mm) can be promised; the curve reaches 90 % at about 19 px (0.95 mm), "
            "at 95 % confidence by 43 px (2.15 mm); try larger sizes.",
        ),
        (
            counted((2, 0, 8), (4, 2, 6), (8, 3, 5), (16, 7, 1), (32, 8, 0), (64, 8, 0)),
            "logistic",
            "finds stains of 39 px (1.95 mm) with 90 % probability (95 % confidence).",
        ),
        (counted((2, 0, 8), (4, 0, 8)), "none", "finds none of 16 stains of up to 4 px (0.2 mm); try larger sizes"),
        (
            counted((2, 15, 0), (4, 15, 0)),
            "counting",
            "finds all 30 stains, down to 2 px (0.1 mm); those of 4 px (0.2 mm) with 90 % probability",
        ),
        (
            counted((2, 0, 9), (4, 0, 9), (6, 29, 0)),
            "counting",
            "finds all stains of 6 px (0.3 mm) and larger, and misses all of 4 px (0.2 mm); those of 6 px (0.3 mm)",
        ),
        (
            counted((2, 0, 9), (4, 3, 6), (6, 9, 0)),
            "none",
            "finds all stains of 6 px (0.3 mm) and larger, and misses some of 4 px (0.2 mm); try sizes between",
        ),
        (
            counted((2, 0, 9), (4, 3, 6)),
            "none",
            "finds some stains of 4 px (0.2 mm) and none smaller; try larger sizes",
        ),
        (counted((2, 9, 0), (4, 0, 9)), "none", "finds large stains no more often than small ones (9 of 18 found)"),
        (counted((2, 6, 2), (4, 2, 6)), "none", "finds large stains no more often than small ones (8 of 16 found)"),
        (
            counted((2, 3, 5), (4, 4, 4)),
            "none",
            "no size of stains can be promised: hits rise too little with the size",
        ),
        (counted((2, 0, 9), (4, 2, 7), (8, 4, 5)), "logistic", "no size of stains up to 8 px (0.4 mm) can be promised"),
    ],
)
def test_every_outcome_in_words(data: HitMiss, method: str, said: str) -> None:
    result = Detectability.of(data)
    assert result.method == method
    assert sentence(result, "stains", 0.05).startswith(said)


def test_a_bound_below_all_sizes_is_the_smallest_size_tried() -> None:
    result = Detectability.of(counted((20, 288, 12), (40, 298, 2), (80, 300, 0)))
    assert result.method == "logistic" and result.a90_95 == 20
    said = "finds pits of 20 px with 90 % probability (95 % confidence), the smallest size tried."
    assert sentence(result, "pits") == said


@pytest.mark.parametrize(
    ("pixels", "words"), [(14.0, "14 px"), (14.01, "15 px"), (3.14, "3.2 px"), (9.99, "10 px"), (4.0, "4 px")]
)
def test_sizes_are_rounded_up(pixels: float, words: str) -> None:
    assert size_in_words(pixels) == words


def test_separated_hits_have_no_curve() -> None:
    with pytest.raises(ValueError, match="separated"):
        Logistic(counted((2, 0, 3), (4, 3, 0)))


def test_steep_curves_have_bounds_everywhere() -> None:
    """Also far from the size at which they rise, where POD is 0 or 1 to the last digit."""
    rng = np.random.default_rng(5)
    sizes = np.geomspace(4, 64, 8)
    fitted = 0
    for slope in (3, 10, 30, 100):
        for _ in range(40):
            pod = 1 / (1 + np.exp(-slope * (np.log(sizes) - np.log(rng.uniform(6, 40)))))
            hits = rng.binomial(6, pod)
            data = HitMiss(sizes, hits, 6 - hits)
            if data.is_separated:
                continue
            fitted += 1
            curve = Logistic(data)
            for size in np.geomspace(2, 128, 9).tolist():
                lower, upper = curve.pod_bounds(size)
                assert 0 <= lower <= curve.pod(np.array(size)) + 1e-9 and curve.pod(np.array(size)) - 1e-9 <= upper <= 1
            bound = curve.size_bound(0.9)
            assert bound is None or bound >= curve.size_at(0.9)
    assert fitted > 40
