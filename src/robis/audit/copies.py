"""Images that are there more than once: the same pixels, or nearly the same (compressed again, brightened, shifted).

On a production line all good images look alike, so a fixed limit of similarity would call all of them copies. What
two photos of alike parts do not share is their finest texture and noise. Two images are compared by it after they were
aligned, and a pair counts where it is far more alike than most images are to their nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from robis.io.threads import threaded

# Of the images whose spectra are most alike, so many are compared with an image.
CANDIDATES = 5
# Near copies are at most this share of the usual distance of an image to its nearest apart (the median), and never more
# than the second number. With few images, whose usual distance is not known, the third decides alone. Copies that were
# compressed again or shifted have up to 0.03; different photos of alike parts of the demo, at least 0.018, a third of
# the usual distance.
SHARE, FARTHEST, SURE = 0.1, 0.05, 0.01
FEWEST = 8
SPECTRUM_SIDE = 128
# Standard deviations between which texture is compared, in pixels of the small pictures: compression and shifts by
# parts of a pixel change what is finer.
FINE, COARSE = 1.0, 3.0
# Larger shifts, as a share of the side, are chance.
MOST_SHIFT = 0.25
MARGIN = 4
LEAST_SIDE = 16
TINY = 1e-6
# Mean square of textures, in gray values, up to which they are rounding.
FLAT = 1e-4
# Spectra that are compared with all others at the same time.
ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Pair:
    """Two images by their numbers, `first` the lower one, and their distance: 0 for the same pixels, up to 2."""

    first: int
    second: int
    distance: float


def find_copies(digests: Sequence[str], small: Sequence[np.ndarray], threads: int = 1) -> list[Pair]:
    """Pairs of images that are copies or near copies, the closest first.

    Of several images with the same pixels each is paired with the first of them, and only that one is compared with
    others: `robis.audit.findings.find` knows their splits.

    Args:
        digests: of the pixels of each image.
        small: float (h, w) gray pictures of the images, in the same order.
        threads: pairs that are compared at the same time.
    """
    first_of: dict[str, int] = {}
    firsts = [first_of.setdefault(digest, number) for number, digest in enumerate(digests)]
    exact = [Pair(first, number, 0.0) for number, first in enumerate(firsts) if first != number]
    different = np.array(sorted(first_of.values()))
    pictures = [small[number] for number in different]
    near = [
        Pair(int(different[pair.first]), int(different[pair.second]), pair.distance)
        for pair in _near(pictures, threads)
    ]
    return sorted([*exact, *near], key=lambda pair: (pair.distance, pair.first, pair.second))


def _near(pictures: Sequence[np.ndarray], threads: int) -> list[Pair]:
    if len(pictures) < 2:
        return []
    spectra = np.empty((len(pictures), SPECTRUM_SIDE * (SPECTRUM_SIDE // 2 + 1)), np.float32)
    for row, picture in zip(spectra, pictures, strict=True):
        row[:] = spectrum(picture)
    numbers = candidates(spectra)
    # Textures are made again for every pair: those of all images would take far more memory than the pictures.
    compared = threaded(lambda pair: distance(*(_fine(pictures[number]) for number in pair)), numbers, threads)
    pairs = [Pair(*pair, value) for pair, value in zip(numbers, compared, strict=True)]
    return [pair for pair, is_near in zip(pairs, _are_near(pairs, len(pictures)), strict=True) if is_near]


def _are_near(pairs: Sequence[Pair], count: int) -> np.ndarray:
    """Which pairs of `count` images are near copies, by the distances of all images to their nearest."""
    distances = np.array([pair.distance for pair in pairs])
    if count < FEWEST:
        return distances <= SURE
    nearest = np.full(count, np.inf)
    for pair in pairs:
        for number in (pair.first, pair.second):
            nearest[number] = min(nearest[number], pair.distance)
    return distances <= min(FARTHEST, SHARE * float(np.median(nearest)))


def candidates(spectra: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of images, each with those whose spectra (N, F) differ from the mean one in the most similar way.

    The spectra are changed in place.
    """
    spectra -= spectra.mean(0)
    for row in spectra:
        row /= np.linalg.norm(row) + TINY
    count = min(CANDIDATES, len(spectra) - 1)
    pairs = set()
    for start in range(0, len(spectra), ROWS_AT_ONCE):
        # One product of matrices: a product for each image would read all spectra from memory as often.
        for number, likeness in enumerate(spectra[start : start + ROWS_AT_ONCE] @ spectra.T, start):
            likeness[number] = -np.inf
            pairs |= {(min(number, other), max(number, other)) for other in largest(likeness, count)}
    return sorted(pairs)


def largest(values: np.ndarray, count: int) -> list[int]:
    """The places of the `count` largest of values (N,), the first ones on ties; in ascending order."""
    least = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > least)
    ties = np.flatnonzero(values == least)[: count - len(above)]
    return sorted([*above.tolist(), *ties.tolist()])


def spectrum(picture: np.ndarray) -> np.ndarray:
    """Logarithms of the amplitudes of a gray picture (h, w), float32 (F,): a shift changes them little."""
    side = SPECTRUM_SIDE
    square = cv2.resize(picture.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    amplitudes: np.ndarray = np.abs(np.fft.rfft2((square - square.mean()) * window))
    return np.log1p(amplitudes).ravel().astype(np.float32)


def _fine(picture: np.ndarray) -> np.ndarray:
    """Texture of a gray picture, without what is coarse; independent of brightness."""
    height, width = (max(LEAST_SIDE, side) for side in picture.shape)
    picture = cv2.resize(picture.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(picture, (0, 0), FINE) - cv2.GaussianBlur(picture, (0, 0), COARSE)


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """One minus the correlation of the textures (h, w) of two pictures after their alignment; 0 to 2."""
    height, width = first.shape
    if second.shape != first.shape:
        second = cv2.resize(second, (width, height), interpolation=cv2.INTER_AREA)
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    # Copies: OpenCV multiplies what it is given by the window, in place, where it need not be padded.
    (x, y), _ = cv2.phaseCorrelate(first.copy(), second.copy(), window)
    shifts = {(0.0, 0.0)} | ({(x, y)} if max(abs(x) / width, abs(y) / height) <= MOST_SHIFT else set())
    return 1 - max(_correlation(first, second, *shift) for shift in shifts)


def _correlation(first: np.ndarray, second: np.ndarray, x: float, y: float) -> float:
    """Correlation over what two pictures share when the second is shifted by (-x, -y) pixels."""
    height, width = first.shape
    moved = cv2.warpAffine(
        second, np.array([[1, 0, x], [0, 1, y]]), (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    rows, columns = _shared(height, y), _shared(width, x)
    a, b = first[rows, columns].astype(np.float64), moved[rows, columns].astype(np.float64)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > FLAT * a.size else 0.0


def _shared(side: int, shift: float) -> slice:
    first, last = int(np.ceil(max(0.0, -shift))), int(np.floor(side - max(0.0, shift)))
    return slice(first + MARGIN, max(first + MARGIN + 1, last - MARGIN))
