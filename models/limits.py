"""The limits of a share that was seen in so many calls: Wilson's, and the exact ones of Clopper and Pearson.

Knows numbers only; what may be called a share, and on how many calls, stands in models/feedback.py. Floats: the tail of
the binomial is the incomplete beta integral, which takes effective sizes that are not whole.
"""

from __future__ import annotations

from fractions import Fraction
from math import exp, lgamma, log, log1p, sqrt
from statistics import NormalDist


def wilson(rate: float, size: float, confidence: str = "0.95") -> tuple[float, float]:
    """Wilson's two-sided score limits of a share seen in so many calls (J. Amer. Statist. Assoc. 22, 1927, 209–212).

    >>> [round(limit, 4) for limit in wilson(4 / 20, 20)]
    [0.0807, 0.416]
    """
    z = NormalDist().inv_cdf((1 + float(Fraction(confidence))) / 2)
    centre = (rate + z * z / (2 * size)) / (1 + z * z / size)
    half = z * sqrt(rate * (1 - rate) / size + z * z / (4 * size * size)) / (1 + z * z / size)
    return max(0.0, centre - half), min(1.0, centre + half)


def clopper_pearson(found: float, size: float, confidence: str = "0.95") -> tuple[float, float]:
    """The exact two-sided limits of Clopper and Pearson (Biometrika 26, 1934, 404–413).

    found and size need not be whole: on an effective size they are Korn and Graubard's limits without their t-factor
    (Survey Methodology 24, 1998, 193–201).

    >>> [round(limit, 4) for limit in clopper_pearson(4, 20)]
    [0.0573, 0.4366]
    """
    tail = float(1 - Fraction(confidence)) / 2
    lower = 0.0 if found <= 0 else _where_tail_is(tail, found, size - found + 1)
    upper = 1.0 if found >= size else _where_tail_is(1 - tail, found + 1, size - found)
    return lower, upper


def upper_limit(found: float, size: float, confidence: str = "0.95") -> float:
    """The exact one-sided upper limit of a share: the highest under which so few are found with probability 1 − confidence.

    >>> round(upper_limit(0, 5), 4)
    0.4507
    """
    return 1.0 if found >= size else round(_where_tail_is(float(Fraction(confidence)), found + 1, size - found), 9)


def _where_tail_is(probability: float, a: float, b: float) -> float:
    """The share whose incomplete beta integral is a probability, by halving until no number lies between."""
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _incomplete_beta(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) by its continued fraction (DLMF 8.17.22); for whole a, b the binomial tail P(X ≥ a) of a + b − 1 calls."""
    if x > (a + 1) / (a + b + 2):  # beyond it the fraction converges slowly, and its mirror fast
        return 1 - _incomplete_beta(1 - x, b, a)
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a
    tiny = 1e-300
    numerator, denominator = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = denominator
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            denominator = 1 / ((1 + term * denominator) or tiny)
            numerator = (1 + term / numerator) or tiny
            value *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-15:
            break
    return front * value
