"""Intervals: percentile bootstrap over test images, paired differences, and spread over seeds.

Test images are what is resampled, with replacement and without stratification: an interval says how far a
figure would move on other test images of the same kind, with the encoder fixed. How far it moves when
training is repeated is another question, which only `over_seeds` answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Outcomes = npt.ArrayLike
"""One outcome per test image (N,), or one row per seed (S,N), averaged over seeds first; NaN: excluded."""

# Numbers drawn at once; bounds the memory for test sets of any size.
_DRAWS = 1 << 21


@dataclass(frozen=True)
class Interval:
    """A mean over test images and its 95 % percentile interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference with this interval is more than the choice of test images."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Spread:
    """A figure over training seeds; `std` is the sample standard deviation, None for a single seed."""

    mean: float
    std: float | None
    seeds: int


def mean_interval(outcomes: Outcomes, samples: int, seed: int) -> Interval:
    """Mean of per-image outcomes with its 95 % interval.

    Args:
        outcomes: (N,) or (S,N); 0/1 for accuracies, any number otherwise.
        samples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: no image has an outcome.
    """
    values = _per_image(outcomes)
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError("no image has an outcome")
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS // len(values))
    means = np.concatenate(
        [
            values[rng.integers(len(values), size=(min(step, samples - start), len(values)))].mean(axis=1)
            for start in range(0, samples, step)
        ]
    )
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def paired_difference(ours: Outcomes, control: Outcomes, samples: int, seed: int) -> Interval:
    """Mean of `ours` minus `control` with its 95 % interval, both on the same resampled images.

    Pairing takes out what all methods find easy or hard, so the interval is narrower than one from two separate
    intervals. Images that either one excludes are left out of both.

    Raises:
        ValueError: the two are not outcomes of the same images.
    """
    a, b = _per_image(ours), _per_image(control)
    if a.shape != b.shape:
        raise ValueError(f"outcomes of {len(a)} and {len(b)} images cannot be paired")
    return mean_interval(a - b, samples, seed)


def paired_over_seeds(
    ours: npt.NDArray[np.float64], control: npt.NDArray[np.float64], samples: int, seed: int
) -> Interval:
    """Mean of `ours` minus `control` with a 95 % interval over images and seeds together.

    Images and seeds are both resampled, each as a whole (Owen 2007), so that the interval covers other photographs
    and the luck of training. With one seed it covers the photographs alone.

    Args:
        ours: (S,N) outcomes, NaN where an image is excluded.
        control: the same; a method without luck has equal rows.
        samples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: the two are not outcomes of the same seeds and images, or no image has an outcome.
    """
    if ours.shape != control.shape:
        raise ValueError(f"outcomes {ours.shape} and {control.shape} cannot be paired")
    values = ours - control
    values = values[:, ~np.isnan(values).any(axis=0)]
    if not values.size:
        raise ValueError("no image has an outcome")
    rng = np.random.default_rng(seed)
    seeds, images = values.shape
    means = np.empty(samples)
    for sample in range(samples):
        weights = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        chosen = np.bincount(rng.integers(images, size=images), minlength=images)
        means[sample] = weights @ values @ chosen / (seeds * images)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(values.mean()), float(low), float(high))


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of one figure over training seeds."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std, len(values))


def _per_image(outcomes: Outcomes) -> npt.NDArray[np.float64]:
    values = np.asarray(outcomes, dtype=np.float64)
    return values if values.ndim == 1 else values.mean(axis=0)
