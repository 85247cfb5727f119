"""Values that lie far from most others, by the median and not the mean, which outliers would move."""

from __future__ import annotations

import numpy as np

# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993), section 3.
FAR = 3.5
# From the median absolute deviation, and where that is 0 from the mean one, to the deviation of a normal distribution.
_MEDIAN_DEVIATION = 1 / 0.6745
_MEAN_DEVIATION = 1.253314


def robust_z(values: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Modified z-scores of Iglewicz and Hoaglin: distances from the median in units of the median deviation.

    Args:
        values: (N,), any unit.
        of: (M,) the values whose median and deviation are meant; None takes `values`.

    Returns:
        float64 (N,); 0 where all values of `of` are equal.
    """
    values = np.asarray(values, np.float64)
    reference = values if of is None else np.asarray(of, np.float64)
    center = np.median(reference)
    deviations = np.abs(reference - center)
    unit = _MEDIAN_DEVIATION * np.median(deviations) or _MEAN_DEVIATION * deviations.mean()
    return (values - center) / unit if unit else np.zeros_like(values)
