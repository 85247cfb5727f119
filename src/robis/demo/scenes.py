"""Normal scenes of the demo dataset: woven cloth, cans seen from above, a pile of beans. Colors are RGB in 0..255."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

LID_HEIGHT = [
    (0, 0), (0.44, 0), (0.47, -0.02), (0.5, 0), (0.54, 0), (0.8, 0.0), (0.82, 0.02), (0.845, 0.02),
    (0.87, -0.05), (0.9, -0.05), (0.94, 0.06), (0.97, 0.065), (1.0, 0.0), (1.05, -0.08),
]  # fmt: skip
PRINT_RING = (0.57, 0.77)
GAP = (38, 31, 24)  # between beans that nothing fell on


@dataclass(frozen=True)
class Scene:
    """A normal image, uint8 (H, W, 3) RGB, and the geometry that its defects follow.

    Layers are arrays (H, W) or (H, W, 3) float32 by name; they differ between categories.
    """

    category: str
    image: np.ndarray
    layers: dict[str, np.ndarray]


def to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _weave(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A 2/2 twill: u counts warp yarns across, v weft yarns down; where the wave is high, warp lies on top."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    turn, skew, pitch = rng.uniform(-0.03, 0.03), rng.uniform(-0.02, 0.02), rng.uniform(8.8, 9.2)
    u = (np.cos(turn) * x + np.sin(turn) * y) / pitch + 0.25 * clouds(rng, height, width, 70)
    v = (np.cos(turn) * y - (np.sin(turn) + skew) * x) / pitch + 0.25 * clouds(rng, height, width, 70)
    u, v = u - u.min(), v - v.min()
    colors = np.array([[88, 104, 132], [176, 172, 160]], dtype=np.float32)
    fibers = 1 + 0.05 * rng.standard_normal((height, width), dtype=np.float32)
    yarns, tops, flats = [], [], []
    for across, along, sign in ((u, v, 1), (v, u, -1)):
        yarn = across.astype(np.int32)
        count, length = int(yarn.max()) + 1, int(along.max()) * 2 + 3
        # Each yarn has its own tone, and slubs: it is thicker and lighter here and there along its way.
        slub = cv2.GaussianBlur(rng.standard_normal((count, length)).astype(np.float32), (0, 1), 4, sigmaY=0.01)
        slub = slub[yarn, (along * 2).astype(np.int32)]
        tone = rng.normal(1, 0.03, count).astype(np.float32)[yarn] * (1 + 0.08 * slub)
        offset = (across - yarn - 0.5) / (0.47 + 0.05 * slub)
        profile = np.sqrt(np.clip(1 - offset * offset, 0, 1))
        wave = sign * np.sin(np.pi / 2 * (along - 0.5 + yarn) + np.pi / 4)
        twist = 0.06 * np.sin(2 * np.pi * (1.5 * along + offset))
        shade = tone * fibers * (0.5 + 0.5 * profile + twist - 0.1 * offset)
        yarns.append(yarn)
        tops.append((0.6 * profile + wave, shade * (0.9 + 0.14 * wave)))
        flats.append(shade * 0.8)
    above = (tops[0][0] > tops[1][0])[..., None]
    image = np.where(above, tops[0][1][..., None] * colors[0], tops[1][1][..., None] * colors[1])
    folds = (1 + 0.035 * clouds(rng, height, width, 200))[..., None]
    layers = {"warp": yarns[0], "weft": yarns[1], "u": u, "v": v}
    layers["only_warp"] = blur(flats[0][..., None] * colors[0] * folds, 0.6)
    layers["only_weft"] = blur(flats[1][..., None] * colors[1] * folds, 0.6)
    return blur(image * folds, 0.6), layers


def _cans(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A can seen from above, turned nearly alike every time: a lathe-turned lid with a printed ring and a tab."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = rng.uniform(0.395, 0.415) * min(height, width)
    x0, y0 = width / 2 + rng.uniform(-12, 12), height / 2 + rng.uniform(-8, 8)
    turn, light = rng.uniform(0.2, 0.4), rng.uniform(-2.5, -2.2)
    dx, dy = (x - x0) / radius, (y - y0) / radius
    r, angle = np.sqrt(dx * dx + dy * dy), np.arctan2(dy, dx)
    # Height of the lid against radius: dished panel, bead, groove, curled rim; light falls on its slope.
    knots = np.linspace(0, 1.05, 400)
    lid = np.interp(knots, *np.array(LID_HEIGHT).T)
    slope = np.gradient(cv2.GaussianBlur(lid[None], (0, 0), 4)[0], knots)
    rings = cv2.GaussianBlur(rng.standard_normal((1, 400)), (0, 0), 0.8)[0]
    steep, spun = (np.interp(r, knots, values).astype(np.float32) for values in (slope, rings))
    # Turned metal reflects a lamp as two opposite fans.
    fans = np.abs(np.cos(angle - light)) ** 10 + 0.5 * np.abs(np.cos(angle - light - 1.2)) ** 24
    metal = 128 + 62 * fans - 62 * steep * np.cos(angle - light) + 5 * spun
    image = metal[..., None] * np.array([1.0, 0.985, 0.955], dtype=np.float32)
    label = _label()
    around = ((angle - turn) / (2 * np.pi)) % 1 * label.shape[1]
    outward = (PRINT_RING[1] - r) / (PRINT_RING[1] - PRINT_RING[0]) * label.shape[0]
    printed = cv2.remap(label, around.astype(np.float32), outward.astype(np.float32), cv2.INTER_LINEAR)
    ink = (printed[..., 3:] / 255) * edge((np.abs(r - np.mean(PRINT_RING)) - 0.1)[..., None] * radius)
    image = image * (1 - ink) + printed[..., :3] * (0.45 + metal / 230)[..., None] * ink
    # The tab, in the lid's own axes: a rounded plate with a finger hole and a rivet, and its shadow.
    tx, ty = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    plate = np.hypot(np.clip(np.abs(tx - 0.12) - 0.16, 0, None), np.clip(np.abs(ty) - 0.03, 0, None)) - 0.09
    hole = np.hypot(np.clip(np.abs(tx - 0.2) - 0.05, 0, None), ty) - 0.06
    tab = np.maximum(plate, -hole) * radius
    shadow = cv2.warpAffine(edge(tab), np.array([[1, 0, 4], [0, 1, 5]], np.float32), (width, height))
    image *= 1 - 0.45 * blur(shadow, 2.5)[..., None]
    bevel = np.clip(1 + tab / 5, 0, 1) * np.cos(np.arctan2(ty, tx - 0.12) + turn - light)
    plain = 158 + 40 * bevel + 25 * np.cos(3 * tx - light) - 45 * (np.abs(np.hypot(tx, ty) - 0.05) < 0.008)
    image += (plain[..., None] - image) * edge(tab)[..., None]
    belt = 52 + 5 * clouds(rng, height, width, 60) + 4 * rng.standard_normal((height, width), dtype=np.float32)
    belt *= 1 - 0.6 * np.exp(-np.clip(np.hypot(x - x0 - 8, y - y0 - 10) - radius, 0, None) / 12)
    belt = blur(belt, 0.8)[..., None] * np.array([0.96, 1, 1.06], dtype=np.float32)
    on_can = edge((r - 1) * radius)[..., None]
    layers = {"r": r, "angle": angle, "center": np.array([x0, y0]), "radius": np.array(radius)}
    return blur(belt * (1 - on_can) + image * on_can, 0.6), layers


def _label() -> np.ndarray:
    """The printed ring unrolled, uint8 (64, 1600, 4): RGB ink and its coverage."""
    label = np.zeros((64, 1600, 4), dtype=np.uint8)
    label[:, :1040] = (150, 38, 44, 255)
    label[6:9, :1040] = label[55:58, :1040] = (226, 204, 150, 255)
    cv2.putText(label, "ROBIS  FINE  PEACHES", (40, 47), cv2.FONT_HERSHEY_DUPLEX, 1.45, (240, 232, 214, 255), 3, 16)
    cv2.putText(label, "NET 425 g", (690, 46), cv2.FONT_HERSHEY_DUPLEX, 1.3, (240, 232, 214, 255), 2, 16)
    for bar in range(60):
        label[8:56, 1100 + 4 * bar : 1102 + 4 * bar + bar * 7 % 3] = (34, 36, 44, 255)
    cv2.putText(label, "L2417 B", (1380, 44), cv2.FONT_HERSHEY_PLAIN, 2.4, (34, 36, 44, 255), 3, 16)
    return label


def _grains(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Dead leaves: beans fall one on another; `order` says which bean (counted from 1) each pixel shows."""
    count = height * width // 200
    order = np.zeros((height, width), dtype=np.int32)
    x0, y0 = rng.uniform(-20, width + 20, count), rng.uniform(-20, height + 20, count)
    long, turn = rng.normal(23, 1.8, count), rng.uniform(0, 2 * np.pi, count)
    wide, bend = long * rng.normal(0.56, 0.04, count), rng.normal(0.2, 0.06, count)
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for i in range(count):
        px, py = long[i] * np.cos(t), wide[i] * (np.sin(t) + bend[i] * np.cos(t) ** 2)
        points = np.stack([x0[i] + px * np.cos(turn[i]) - py * np.sin(turn[i]),
                           y0[i] + px * np.sin(turn[i]) + py * np.cos(turn[i])], axis=1)  # fmt: skip
        cv2.fillPoly(order, [np.rint(points * 16).astype(np.int32)], i + 1, shift=4)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    beans = np.stack([x0, y0, np.cos(turn), np.sin(turn), long, wide, bend, rng.normal(1, 0.06, count),
                      rng.normal(0, 1, count)], axis=1).astype(np.float32)  # fmt: skip
    bx, by, c, s, a, b, curve, tone, hue = np.moveaxis(np.vstack([beans[:1], beans])[order], 2, 0)
    p, q = ((x - bx) * c + (y - by) * s) / a, ((y - by) * c - (x - bx) * s) / b
    q -= curve * p * p
    bulge = np.sqrt(np.clip(1 - p * p - q * q, 0.02, 1))
    nx, ny = p / a * b, q
    lit = bulge * 0.75 - 0.45 * (nx * c - ny * s) - 0.5 * (nx * s + ny * c)
    hilum = np.exp(-((p / 0.16) ** 2) - ((q - 0.72) / 0.2) ** 2)
    shade = tone * (0.5 + 0.42 * lit) * (1 - 0.45 * hilum) * (1 + 0.03 * clouds(rng, height, width, 5))
    color = np.array([214, 186, 142], dtype=np.float32) + hue[..., None] * np.array([3, 6, 9], dtype=np.float32)
    gloss = 70 * np.clip(lit - 0.72, 0, 1)[..., None]
    shade *= cast_shadow(order.astype(np.float32))
    image = shade[..., None] * color + gloss
    image[order == 0] = GAP
    return blur(image, 0.6), {"order": order, "x0": x0, "y0": y0}


def cast_shadow(order: np.ndarray) -> np.ndarray:
    """Shadow factor (H, W): darker where something later in the pile lies toward the light, up and left."""
    shadow = np.zeros(order.shape, dtype=np.float32)
    for step in (2, 5):
        moved = cv2.warpAffine(order, np.array([[1, 0, step], [0, 1, step]], np.float32), order.shape[::-1])
        shadow += 0.3 * (moved > order)
    return 1 - blur(shadow, 1.5)


def clouds(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    """Smooth noise, float32 (H, W), of about unit spread; `scale` is the size of its lumps in pixels."""
    coarse = rng.standard_normal((int(height / scale) + 3, int(width / scale) + 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)


def edge(distance: np.ndarray) -> np.ndarray:
    """Coverage of a pixel whose signed distance to a border, in pixels, is negative inside."""
    return np.clip(0.5 - distance, 0, 1)


SCENES: dict[str, Callable[..., tuple[np.ndarray, dict[str, np.ndarray]]]] = {
    "weave": _weave,
    "cans": _cans,
    "grains": _grains,
}
