"""Regions as polygons and as run lengths, and back.

A polygon's coordinates are x and y in pixels, (0, 0) is the upper left corner of the upper left pixel, and a pixel is
inside if its center is, by the even-odd rule. Polygons run along the edges of pixels, so that they give the same mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from scipy.spatial import KDTree

from robis.labels.model import Region

# Corners that are tried as the place to which a hole is joined.
NEAR = 64


def outline_of(region: Region, tolerance: float = 0.0) -> np.ndarray:
    """The polygon of a region in the whole image; see `polygon_of`."""
    return polygon_of(region.mask, tolerance) + np.array([region.x, region.y])


def polygon_of(mask: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """One closed outline around an 8-connected region, its holes joined by lines that run both ways.

    Args:
        mask: bool (H, W), one region.
        tolerance: largest distance in pixels by which corners may be left out; 0 gives the mask exactly.

    Returns:
        float64 (N, 2), x and y; the last point is not the first.
    """
    # Pixel (r, c) covers the points 2r .. 2r + 2, 2c .. 2c + 2: outlines run through corners of pixels.
    height, width = mask.shape
    grid = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    for down in range(3):
        for across in range(3):
            grid[down : down + 2 * height : 2, across : across + 2 * width : 2] |= mask.view(np.uint8)
    rings, levels = cv2.findContours(grid, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    corners = [_simplified(_along_edges(ring[:, 0]), tolerance) for ring in rings]
    is_outer = [level[3] < 0 for level in levels[0]]
    outline = next(ring for ring, outer in zip(corners, is_outer, strict=True) if outer)
    holes = [ring for ring, outer in zip(corners, is_outer, strict=True) if not outer]
    return _with_holes(outline, holes) if holes else outline


def _along_edges(ring: np.ndarray) -> np.ndarray:
    """The corners of a contour on the doubled grid, in pixels; where it cuts a corner, that corner is put back."""
    after = np.roll(ring, -1, axis=0)
    # Of the two points between the ends of a diagonal step, the one with even coordinates is a corner of a pixel.
    between = np.where(ring % 2 == 0, ring, after)
    is_diagonal = (ring != after).all(axis=1)
    points = np.stack([ring, np.where(is_diagonal[:, None], between, ring)], axis=1).reshape(-1, 2)
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    step_in, step_out = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    corners: np.ndarray = points[(step_in != step_out).any(axis=1)] / 2
    return corners


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    if not tolerance:
        return ring
    fewer = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0].astype(np.float64)
    return fewer if len(fewer) > 2 else ring


def _with_holes(outline: np.ndarray, holes: Sequence[np.ndarray]) -> np.ndarray:
    """One line around an outline (N, 2) that walks over to each hole, around it, and back.

    A hole is joined at its leftmost corner to a near corner of the outline or of a hole that begins farther left.
    """
    lefts = [ring[:, 0].min() for ring in holes]
    holes = [holes[number] for number in np.argsort(lefts, kind="stable")]
    rings = [outline, *(np.roll(hole, -int(hole[:, 0].argmin()), axis=0) for hole in holes)]
    guests: list[list[tuple[int, int]]] = [[] for _ in rings]
    for guest, (host, corner) in enumerate(_hosts(rings), start=1):
        guests[host].append((corner, guest))
    walks = list(rings)
    for number in range(len(rings) - 1, -1, -1):
        ring, last, parts = rings[number], 0, []
        for corner, guest in sorted(guests[number]):
            parts += [ring[last : corner + 1], walks[guest], walks[guest][:1]]
            last = corner
        walks[number] = np.concatenate([*parts, ring[last:]])
    return walks[0]


def _hosts(rings: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """For each ring but the first, a ring before it and the number of that one's corner that is near its first."""
    corners = np.concatenate(rings)
    owner = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    first = np.searchsorted(owner, np.arange(len(rings)))
    tree = KDTree(corners)
    _, near = tree.query(corners[first[1:]], min(NEAR, len(corners)))
    for number, candidates in enumerate(near, start=1):
        before = candidates[owner[candidates] < number]
        # Far from all of them: the nearest by comparison with each.
        best = before[0] if len(before) else ((corners[: first[number]] - rings[number][0]) ** 2).sum(axis=1).argmin()
        yield int(owner[best]), int(best - first[owner[best]])


def mask_of(polygons: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """The pixels whose centers are in an odd number of polygons, bool (height, width).

    Args:
        polygons: float (N, 2) each, x and y; parts outside the image are left out.
        height, width: size of the image in pixels.
    """
    mask = np.zeros((height, width), bool)
    every = np.concatenate([np.asarray(points, np.float64) for points in polygons])
    sides = np.array([width, height])
    (left, top), (right, bottom) = (
        np.clip(corner, 0, sides).astype(int).tolist()
        for corner in (np.floor(every.min(axis=0)), np.ceil(every.max(axis=0)))
    )
    crossings = np.zeros((bottom - top, right - left + 1), np.int32)
    for points in polygons:
        rows, columns = _crossings(np.asarray(points, np.float64) - (left, top), bottom - top, right - left)
        np.add.at(crossings, (rows, columns), 1)
    mask[top:bottom, left:right] = crossings[:, :-1].cumsum(axis=1) % 2 == 1
    return mask


def _crossings(points: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a polygon's sides cross the middle of a row: the row, and the first pixel whose center is behind."""
    start, end = points, np.roll(points, -1, axis=0)
    upper = np.where((start[:, 1] <= end[:, 1])[:, None], start, end)
    lower = np.where((start[:, 1] <= end[:, 1])[:, None], end, start)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    length = np.maximum(stop - first, 0)
    side = np.repeat(np.arange(len(points)), length)
    rows = np.arange(length.sum()) - np.repeat(length.cumsum() - length, length) + first[side]
    share = (rows + 0.5 - upper[side, 1]) / (lower[side, 1] - upper[side, 1])
    x = upper[side, 0] + share * (lower[side, 0] - upper[side, 0])
    return rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)


def runs_of(values: np.ndarray) -> np.ndarray:
    """Lengths of the runs of equal values in a bool array (N,), from a run of False, which may have length 0, on."""
    changes = np.flatnonzero(np.diff(values.view(np.int8), prepend=np.int8(0)))
    return np.diff(changes, prepend=0, append=len(values))


def from_runs(runs: Sequence[int] | np.ndarray) -> np.ndarray:
    """The bool array (N,) of such runs."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs)
