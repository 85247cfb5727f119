"""Defects of the demo dataset, drawn into a scene along its own geometry.

Each function gives what to paint, broadcastable to (H, W, 3), and how opaque it is, (H, W) in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from robis.arrays.shapes import smooth_path, wavy_patch
from robis.demo.scenes import PRINT_RING, Scene, blur, cast_shadow, clouds

# Pixels below which a defect counts as small: drawn with thinner lines and more contrast, and never covered.
_SMALL = 40


def _stain(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    inside = wavy_patch(rng, _place(scene, rng, length), length, scene.image.shape)
    ring = np.exp(-((inside - 3) ** 2) / 8)
    strength = 0.65 + 0.25 * ring
    return scene.image * np.array([0.62, 0.46, 0.3]), strength * np.clip(inside / 2, 0, 1)


def _hole(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    center = _place(scene, rng, length)
    torn = wavy_patch(rng, center, length, scene.image.shape)
    # Yarns end where they broke, each at its own place.
    for yarns, ends in (("warp", 0.07), ("weft", 0.05)):
        yarn = scene.layers[yarns]
        torn = torn - ends * length * rng.uniform(0, 1, int(yarn.max()) + 1).astype(np.float32)[yarn]
    loose = scene.layers["only_warp"] * 0.7
    through = np.clip(torn - 0.12 * length, 0, 1)[..., None]
    return loose * (1 - through) + np.array([24, 22, 22]) * through, np.clip(torn, 0, 1)


def _missing_thread(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    yarns, along, left = rng.permutation([("warp", "v", "only_weft"), ("weft", "u", "only_warp")])[0]
    x, y = _place(scene, rng, length).astype(int)
    yarn, position = scene.layers[yarns], scene.layers[along]
    pitch = np.abs(np.gradient(position[y - 2 : y + 3, x - 2 : x + 3])).max()
    gone = (yarn == yarn[y, x]) & (np.abs(position - position[y, x]) < length * pitch / 2)
    return scene.layers[left] * 0.72, gone.astype(np.float32)


def _foreign_fiber(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    color = np.array([[172, 44, 40], [34, 34, 38], [232, 206, 92]])[rng.integers(3)]
    thick = 3 if length < _SMALL else 5
    line = _curve(rng, _place(scene, rng, length), length - thick, scene.image.shape, thick, 0.5)
    return color * (0.75 + 0.25 * blur(line, 1)[..., None]), line


def _scratch(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    thick = 3 if length < _SMALL else 5
    line = _curve(rng, _place(scene, rng, length), length - thick, scene.image.shape, thick, 0.25)
    # A burr: lit on one side, dark on the other.
    lit = cv2.Sobel(blur(line, 1), cv2.CV_32F, 0, 1) + cv2.Sobel(blur(line, 1), cv2.CV_32F, 1, 0)
    return np.where(lit > 0.1, 238, 58)[..., None], line


def _dent(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = scene.image.shape[:2]
    x0, y0 = _place(scene, rng, length)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    squash, turn = rng.uniform(0.6, 0.9), rng.uniform(0, np.pi)
    p = ((x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)) * 2 / length
    q = ((y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)) * 2 / length / squash
    depth = (np.clip(1 - p * p - q * q, 0, 1) ** 2).astype(np.float32)
    gy, gx = np.gradient(depth * np.float32(length))
    bent = cv2.remap(scene.image, x - 6 * gx, y - 6 * gy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    slope = (gx + gy) / (np.abs(gx + gy).max() + 1e-6)
    alpha = np.clip((1 - p * p - q * q) * 4, 0, 1)
    return bent * (1 + 0.45 * slope)[..., None] - 12 * depth[..., None], alpha


def _smear(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Ink where none belongs: a ragged patch across the printed ring, streaked around the can's axis."""
    center = _place(scene, rng, length, PRINT_RING)
    patch = np.clip(wavy_patch(rng, center, length, scene.image.shape, 0.5) / 1.5, 0, 1)
    streaks = np.interp(scene.layers["r"] * float(scene.layers["radius"]), np.arange(400), rng.uniform(0.6, 1, 400))
    ink = np.array([118, 30, 38]) * (0.7 + scene.image.mean(axis=2, keepdims=True) / 400)
    return ink, patch * streaks


def _foreign_body(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    """A stone, a twig or a piece of plastic; later beans of the pile cover a large one in part."""
    color, squash = [((112, 112, 116), 0.75), ((74, 56, 40), 0.22), ((46, 92, 158), 0.5)][rng.integers(3)]
    inside = wavy_patch(rng, _place(scene, rng, length), length, scene.image.shape, squash if length > _SMALL else 0.75)
    order = scene.layers["order"]
    depth = np.quantile(order[inside > 0], 0.8) if length > _SMALL else order.max() + 1
    seen = np.where(order < depth, np.clip(inside, 0, 1), 0)
    gy, gx = np.gradient(blur(np.minimum(inside, 6), 1.5))
    rough = 1 + 0.07 * clouds(rng, seen.shape[0], seen.shape[1], 3)
    shade = (0.85 + 0.4 * (gx + gy)) * rough * cast_shadow(np.where(seen > 0, depth, order).astype(np.float32))
    return np.array(color) * shade[..., None], seen


def _dark_grain(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    """A spot on one bean, or a nest of moldy ones."""
    order, x0, y0 = (scene.layers[name] for name in ("order", "x0", "y0"))
    height, width = order.shape
    area = np.bincount(order.ravel(), minlength=len(x0) + 1)[1:]
    room = np.minimum(np.minimum(x0, width - x0), np.minimum(y0, height - y0)) > length / 2 + 8
    bean = rng.choice(np.flatnonzero(room & (area > np.quantile(area[area > 0], 0.7))))
    if length < _SMALL:
        spot = wavy_patch(rng, np.array([x0[bean], y0[bean]]), length, scene.image.shape)
        return scene.image * 0.3, np.where(order == bean + 1, np.clip(spot / 1.5, 0, 1), 0)
    nest = np.flatnonzero(np.hypot(x0 - x0[bean], y0 - y0[bean]) <= max(0, length - 46) / 2)
    mold = 0.5 + 0.14 * clouds(rng, height, width, 5)
    return scene.image * mold[..., None] * np.array([0.82, 0.86, 0.95]), np.isin(order, nest + 1) * 1.0


def _crumbs(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of broken beans, pale where they broke."""
    height, width = scene.image.shape[:2]
    center = _place(scene, rng, length)
    count = int(length * length / 70)
    reach = (length - 12) / 2 * np.sqrt(rng.uniform(0, 1, count))
    side, towards = 6.5, rng.uniform(0, 2 * np.pi, count)
    pieces = np.zeros((height, width), dtype=np.int32)
    for i in range(count):
        t = np.sort(rng.uniform(0, 2 * np.pi, 3)) + np.array([0, 0.3, 0.6])
        t = np.concatenate([t, t[:1] + np.pi])
        points = center + reach[i] * np.array([np.cos(towards[i]), np.sin(towards[i])])
        points = points + side * rng.uniform(0.75, 1) * np.stack([np.cos(t), np.sin(t)], axis=1)
        cv2.fillConvexPoly(pieces, cv2.convexHull(np.rint(points * 16).astype(np.int32)), i + 1, shift=4)
    tone = np.concatenate([[0], rng.uniform(0.72, 1.08, count)])[pieces]
    shade = blur((tone * cast_shadow(pieces.astype(np.float32))).astype(np.float32), 0.5)
    return np.array([238, 224, 192]) * shade[..., None], (pieces > 0) * 1.0


# What scenes and defects share.


def _place(
    scene: Scene, rng: np.random.Generator, length: float, ring: tuple[float, float] = (0.1, 0.95)
) -> np.ndarray:
    """A center (x, y) so that something of `length` fits: within the image, on a can within `ring`."""
    if "center" in scene.layers:
        radius, angle = float(scene.layers["radius"]), rng.uniform(0, 2 * np.pi)
        outer = min(ring[1], 0.97 - length / 2 / radius)
        r = rng.uniform(min(ring[0], outer), outer) * radius
        return scene.layers["center"] + r * np.array([np.cos(angle), np.sin(angle)])
    size = np.array(scene.image.shape[1::-1])
    return rng.uniform(length / 2 + 8, size - length / 2 - 8)


def _curve(
    rng: np.random.Generator, center: np.ndarray, length: float, shape: tuple[int, ...], thick: int, curl: float
) -> np.ndarray:
    """Coverage 0..1, float32 (H, W), of a smooth random line whose ends or bends lie `length` apart."""
    points = smooth_path(rng, curl)
    points = (points - (points.max(0) + points.min(0)) / 2) * length / np.ptp(points, axis=0).max() + center
    line = np.zeros(shape[:2], dtype=np.uint8)
    cv2.polylines(line, [np.rint(points * 16).astype(np.int32)], False, 255, thick, cv2.LINE_AA, shift=4)
    return line.astype(np.float32) / 255


DEFECT_KINDS: dict[str, dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]]] = {
    "weave": {
        "stain": _stain, "missing_thread": _missing_thread, "hole": _hole, "foreign_fiber": _foreign_fiber
    },
    "cans": {"scratch": _scratch, "dent": _dent, "smear": _smear},
    "grains": {"foreign_body": _foreign_body, "dark_grain": _dark_grain, "crumbs": _crumbs},
}  # fmt: skip
