"""Bounds on a share that hold at every look at once, so that looking often does not make a false alarm likely.

A test with a fixed number of samples errs in one of a hundred looks; who looks every two seconds is wrong before long.
Here the sequence of bounds as a whole is wrong with the probability `alpha` at most, however often one looks and
whenever one stops (a confidence sequence).

For events that happen with probability p, the likelihood ratio of any other fixed probability against p is a
martingale with mean 1, and so is a mixture of them. With a Beta(1/2, 1/2) mixture it is, after s events in n samples,

    M(p) = B(s + 1/2, n - s + 1/2) / B(1/2, 1/2) / (p^s (1 - p)^(n - s))

By Ville's inequality M(p) ever reaches 1/alpha with the probability alpha at most, so the values of p with
M(p) < 1/alpha contain the true one throughout.

* H. Robbins, Statistical methods related to the law of the iterated logarithm, Ann. Math. Statist. 41 (1970), 1397-1409
* S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences,
  Ann. Statist. 49 (2021), 1055-1080, https://arxiv.org/abs/1810.08240

It takes the samples for independent. Failures that come in bursts make it a little bolder than it says; what hits both
versions at once, such as an outage of a database, cancels out because both are looked at over the same time.
"""

from __future__ import annotations

from math import inf, lgamma, log

_PRIOR = 0.5
_HALVINGS = 50


def lower_bound(events: int, samples: int, alpha: float) -> float:
    """What the probability is at least, but for an error of probability `alpha` over all looks together."""
    if events == 0:
        return 0.0
    return _bisect(events, samples, alpha, inside=events / samples, outside=0.0)


def upper_bound(events: int, samples: int, alpha: float) -> float:
    """What the probability is at most; see `lower_bound`. 1 without samples."""
    if events == samples:
        return 1.0
    return _bisect(events, samples, alpha, inside=events / samples, outside=1.0)


def _bisect(events: int, samples: int, alpha: float, *, inside: float, outside: float) -> float:
    """The bound between the observed share, which is always inside, and the end of the scale. Rounds to the outside:
    never claims more than is known."""
    limit = log(1 / alpha)
    mixture = _log_beta(events + _PRIOR, samples - events + _PRIOR) - _log_beta(_PRIOR, _PRIOR)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if mixture - _log_likelihood(events, samples, middle) < limit:
            inside = middle
        else:
            outside = middle
    return outside


def _log_likelihood(events: int, samples: int, p: float) -> float:
    if p <= 0.0 or p >= 1.0:
        return -inf  # asked only where some happened and some did not
    return events * log(p) + (samples - events) * log(1 - p)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
