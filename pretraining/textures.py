"""Generated surfaces: every picture the shipped encoder was trained on comes from here, and from nothing else.

A texture has a style, drawn once, and any number of pictures of it: the same weave, photographed elsewhere on the
cloth. All randomness comes from the two generators that a function is given.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Field = np.ndarray
Drawer = Callable[[np.random.Generator, int], Field]


def noise(rng: np.random.Generator, size: int, scale: float, stretch: float = 1.0, turn: float = 0.0) -> Field:
    """Smooth noise of unit spread, float32 (size, size), its lumps `scale` px, `stretch` times as long along `turn`."""
    if stretch == 1.0:
        side = max(4, int(size / scale) + 3)
        field = cv2.resize(
            rng.standard_normal((side, side)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
        )
    else:
        big = int(size * 1.5)
        grid = rng.standard_normal((max(4, int(big / scale) + 1), max(4, int(big / scale / stretch) + 1)))
        wide = cv2.resize(grid.astype(np.float32), (big, big), interpolation=cv2.INTER_CUBIC)
        matrix = cv2.getRotationMatrix2D((big / 2, big / 2), float(np.degrees(turn)), 1.0)
        matrix[:, 2] = matrix[:, 2] - (big - size) / 2
        field = cv2.warpAffine(wide, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    return (field - field.mean()) / (field.std() + 1e-6)


def axes(rng: np.random.Generator, size: int, turn: float, wobble: float = 0.0) -> tuple[Field, Field]:
    """Two coordinates in pixels, turned, shifted at random, and bent by `wobble` pixels."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    u = np.cos(turn) * x + np.sin(turn) * y + rng.uniform(0, 1000)
    v = np.cos(turn) * y - np.sin(turn) * x + rng.uniform(0, 1000)
    if wobble:
        u += wobble * noise(rng, size, 60)
        v += wobble * noise(rng, size, 60)
    return u.astype(np.float32), v.astype(np.float32)


def _grain(style: np.random.Generator) -> Drawer:
    """Noise of several scales, such as cast metal, leather, plaster or brushed steel."""
    scales = style.uniform(1.0, 2.0) * 2.0 ** np.arange(5)
    weights = style.dirichlet(np.full(5, 0.7))
    stretch = float(style.choice([1.0, 1.0, style.uniform(3, 25)]))
    turn = style.uniform(0, np.pi)
    power = style.choice([1.0, 1.0, 2.0])

    def draw(rng: np.random.Generator, size: int) -> Field:
        turned = turn + rng.normal(0, 0.03)
        parts = [w * noise(rng, size, s, stretch, turned) for w, s in zip(weights, scales, strict=True) if w > 0.03]
        field = np.sum(parts, axis=0)
        return np.asarray(np.abs(field) if power == 2 else field)

    return draw


def _waves(style: np.random.Generator) -> Drawer:
    """A grating, or several, smooth or sharp: ribs, gauze, machined grooves."""
    count = int(style.integers(1, 4))
    turns = style.uniform(0, np.pi) + np.arange(count) * style.choice([np.pi / count, style.uniform(0.2, 1.5)])
    pitches = style.uniform(4, 40) * style.uniform(0.7, 1.4, count)
    sharp, wobble, rough = style.choice([0.0, 2.0, 8.0]), style.uniform(0, 2.5), style.uniform(0, 0.4)

    def draw(rng: np.random.Generator, size: int) -> Field:
        field = rough * noise(rng, size, 1.5)
        tilt = rng.normal(0, 0.05)
        for turn, pitch in zip(turns, pitches, strict=True):
            wave = np.sin(2 * np.pi * axes(rng, size, turn + tilt, wobble)[0] / pitch)
            field = field + (np.tanh(sharp * wave) if sharp else wave) / count
        return field

    return draw


def _weave(style: np.random.Generator) -> Drawer:
    """Threads over and under each other."""
    pitch, ratio, turn = style.uniform(5, 26), style.uniform(0.7, 1.4), style.uniform(0, np.pi)
    step, over = int(style.integers(1, 4)), int(style.integers(2, 5))
    contrast, uneven, wobble = style.uniform(-0.6, 0.6), style.uniform(0, 0.15), style.uniform(0, 2)

    def draw(rng: np.random.Generator, size: int) -> Field:
        u, v = axes(rng, size, turn + rng.normal(0, 0.04), wobble)
        u, v = u / pitch, v / pitch / ratio
        warp, weft = np.floor(u).astype(int), np.floor(v).astype(int)
        tones = rng.normal(0, uneven, (2, 512)).astype(np.float32)
        on_top = (warp + step * weft) % over == 0
        across, along = u - warp - 0.5, v - weft - 0.5
        warps = _thread(across) * (0.8 + 0.2 * np.cos(np.pi * along)) + tones[0][warp % 512]
        wefts = _thread(along) * (0.8 + 0.2 * np.cos(np.pi * across)) + tones[1][weft % 512]
        return np.asarray(np.where(on_top, warps + contrast, wefts) + 0.08 * noise(rng, size, 1.2))

    return draw


def _thread(across: Field) -> Field:
    return np.asarray(np.sqrt(np.clip(1 - 3.4 * across**2, 0.05, 1)))


def _leaves(style: np.random.Generator) -> Drawer:
    """Dead leaves: shapes falling on one another, shaded: gravel, seeds, chips."""
    radius, spread = style.uniform(5, 22), style.uniform(0.05, 0.6)
    squash, corners = style.uniform(0.35, 1.0), int(style.choice([0, 0, 3, 4, 6]))
    tone, relief, aligned = style.uniform(0.1, 1.0), style.uniform(0, 1.5), bool(style.random() < 0.25)
    angle = style.uniform(0, np.pi)

    def draw(rng: np.random.Generator, size: int) -> Field:
        count = int(3.2 * (size + 2 * radius) ** 2 / (np.pi * radius**2 * squash))
        count = min(count, 900)
        label = np.zeros((size, size), np.int32)
        centers = rng.uniform(-radius, size + radius, (count, 2))
        radii = radius * np.exp(rng.normal(0, spread, count)).clip(0.3, 3)
        turns = np.full(count, angle) + rng.normal(0, 0.1 if aligned else 9, count)
        sides = corners or 12
        around = np.linspace(0, 2 * np.pi, sides, endpoint=False)
        for n in range(count):
            ring = radii[n] * (1 + (0.15 * rng.standard_normal(sides) if corners else 0))
            p, q = ring * np.cos(around), squash * ring * np.sin(around)
            c, s = np.cos(turns[n]), np.sin(turns[n])
            points = centers[n] + np.stack([c * p - s * q, s * p + c * q], axis=1)
            cv2.fillPoly(label, [np.rint(points * 8).astype(np.int32)], n + 1, cv2.LINE_8, 3)
        tones = rng.normal(0, 1, count + 1).astype(np.float32)
        border = cv2.morphologyEx(label.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3))) == 0
        depth = cv2.distanceTransform(border.astype(np.uint8), cv2.DIST_L2, 3)
        bulge = np.sqrt(np.minimum(depth / (radius * squash), 1))
        return tone * tones[label] + relief * bulge + 0.1 * noise(rng, size, 2)

    return draw


def _cells(style: np.random.Generator) -> Drawer:
    """Voronoi cells: leather, mosaic, crackled glaze, crystals."""
    spacing, jitter = style.uniform(9, 40), style.uniform(0.1, 0.5)
    tone, seam, bulge = style.uniform(0, 1), style.uniform(0, 2), style.uniform(0, 1.5)
    stretch, turn = style.uniform(1, 2.2), style.uniform(0, np.pi)

    def draw(rng: np.random.Generator, size: int) -> Field:
        u, v = axes(rng, size, turn + rng.normal(0, 0.05), 2)
        u, v = u / spacing, v / spacing / stretch
        iu, iv = np.floor(u).astype(int), np.floor(v).astype(int)
        offset = rng.uniform(-jitter, jitter, (2, 64, 64)).astype(np.float32)
        tones = rng.standard_normal((64, 64)).astype(np.float32)
        first, second, owner = (np.full((size, size), value, np.float32) for value in (9.0, 9.0, 0.0))
        for du in (-1, 0, 1):
            for dv in (-1, 0, 1):
                cu, cv = iu + du, iv + dv
                at = (cu % 64, cv % 64)
                far = np.hypot(u - cu - 0.5 - offset[0][at], v - cv - 0.5 - offset[1][at])
                second = np.minimum(second, np.maximum(first, far))
                owner = np.where(far < first, tones[at], owner)
                first = np.minimum(first, far)
        seams = np.exp(-(((second - first) * spacing / 1.6) ** 2))
        return np.asarray(tone * owner - seam * seams + bulge * (1 - first) + 0.08 * noise(rng, size, 1.5))

    return draw


def _speckle(style: np.random.Generator) -> Drawer:
    """Specks on a ground: granite, terrazzo, paper, foam."""
    scale, share, soft = style.uniform(1.5, 7), style.uniform(0.02, 0.4), style.uniform(1, 10)
    layers, ground = int(style.integers(1, 4)), style.uniform(0, 0.4)
    signs = style.choice([-1, 1], 3) * style.uniform(0.5, 1.5, 3)

    def draw(rng: np.random.Generator, size: int) -> Field:
        field = ground * noise(rng, size, 6)
        for n in range(layers):
            lumps = noise(rng, size, scale * 1.7**n)
            limit = np.quantile(lumps, 1 - share / (n + 1))
            field = field + signs[n] * np.clip(0.5 + soft * (lumps - limit), 0, 1)
        return field

    return draw


def _lattice(style: np.random.Generator) -> Drawer:
    """Equal marks on a grid: bricks, perforated sheet, embossing, pins, checks."""
    pitch, ratio, turn = style.uniform(9, 44), style.uniform(0.5, 2), style.choice([0.0, style.uniform(0, np.pi)])
    shift = style.choice([0.0, 0.5, style.uniform(0, 1)])
    form, edge = style.uniform(0.6, 6), style.uniform(0.15, 0.45)
    tone, sharp = style.uniform(0, 0.3), style.uniform(2, 30)

    def draw(rng: np.random.Generator, size: int) -> Field:
        u, v = axes(rng, size, turn + rng.normal(0, 0.03), 0.6)
        v = v / pitch / ratio
        row = np.floor(v).astype(int)
        u = u / pitch + shift * row
        column = np.floor(u).astype(int)
        p, q = np.abs(u - column - 0.5), np.abs(v - row - 0.5)
        inside = np.tanh(sharp * (edge - (p**form + q**form) ** (1 / form)))
        tones = rng.normal(0, tone, (64, 64)).astype(np.float32)
        return np.asarray(inside + tones[column % 64, row % 64] * (inside > 0) + 0.06 * noise(rng, size, 1.5))

    return draw


def _rings(style: np.random.Generator) -> Drawer:
    """Wood, marble, flow: bands of a smooth field."""
    scale, bands, stretch = style.uniform(30, 120), style.uniform(1, 6), style.uniform(1, 8)
    turn, saw, rough = style.uniform(0, np.pi), bool(style.random() < 0.5), style.uniform(0.02, 0.3)

    def draw(rng: np.random.Generator, size: int) -> Field:
        field = bands * noise(rng, size, scale / 2, stretch, turn + rng.normal(0, 0.05))
        field = field % 1 if saw else np.sin(2 * np.pi * field)
        return field + rough * noise(rng, size, 1.5, 6, turn)

    return draw


def _plain(style: np.random.Generator) -> Drawer:
    """A nearly even surface: painted, ground, molded."""
    fine, broad = style.uniform(0.0, 0.25), style.uniform(0, 0.35)
    stretch, turn = float(style.choice([1.0, style.uniform(4, 20)])), style.uniform(0, np.pi)

    def draw(rng: np.random.Generator, size: int) -> Field:
        return fine * noise(rng, size, 1.3, stretch, turn) + broad * noise(rng, size, 80) + 0.01

    return draw


def _fibers(style: np.random.Generator) -> Drawer:
    """Many thin lines: felt, hair, scratched metal, paper pulp."""
    count, length, bend = int(style.integers(150, 500)), style.uniform(20, 120), style.uniform(0, 0.5)
    turn, spread, thick = style.uniform(0, np.pi), style.choice([0.1, 0.4, 3.0]), int(style.integers(1, 3))

    def draw(rng: np.random.Generator, size: int) -> Field:
        field = np.zeros((size, size), np.float32)
        starts = rng.uniform(-0.2 * size, 1.2 * size, (count, 2))
        angles = turn + rng.normal(0, spread, count)
        tones = rng.normal(0, 1, count)
        bends = rng.normal(0, bend, count)
        for n in range(count):
            heading = angles[n] + bends[n] * np.arange(5)
            steps = length / 5 * np.stack([np.cos(heading), np.sin(heading)], axis=1)
            points = np.rint((starts[n] + np.cumsum(steps, axis=0)) * 8).astype(np.int32)
            cv2.polylines(field, [points], False, float(tones[n]), thick, cv2.LINE_AA, 3)
        return field + 0.1 * noise(rng, size, 1.5)

    return draw


FAMILIES: dict[str, Callable[[np.random.Generator], Drawer]] = {
    "grain": _grain,
    "waves": _waves,
    "weave": _weave,
    "leaves": _leaves,
    "cells": _cells,
    "speckle": _speckle,
    "lattice": _lattice,
    "rings": _rings,
    "plain": _plain,
    "fibers": _fibers,
}


class Texture:
    """One texture, or two that meet at an edge: family, parameters, colors and light, drawn from `seed`.

    An unsteady one changes from picture to picture, as lots of a product and the exposures of a line do: a part of them
    much in contrast, in scale, or in light.
    """

    def __init__(
        self, seed: int, families: tuple[str, ...] = tuple(FAMILIES), parts: float = 0.35, unsteady: bool = False
    ) -> None:
        style = np.random.default_rng([seed, 1])
        first, second = style.choice(families, 2)
        self.family = str(first)
        self._draw = FAMILIES[self.family](style)
        self._other = FAMILIES[str(second)](style) if style.random() < 0.25 else None
        self._mix = style.uniform(0.1, 0.5)
        self._colors = _palette(style)
        self._contrast = style.uniform(0.15, 1.0)
        self._blur = style.choice([0.0, 0.0, style.uniform(0.4, 1.2)])
        self._zoom = style.choice([0.6, 0.8, 1.0, 1.0, 1.3])
        self._camera = Camera(style)
        self._inner = Texture(seed + 1_000_000_007, families, 0.0, unsteady) if style.random() < parts else None
        self._outline = Outline(style)
        self._lots = self._stretch = 0.0
        if unsteady:
            # Of its own stream: the same seed is the same texture, steady or not.
            change = np.random.default_rng([seed, 3])
            self._lots, self._stretch = change.choice([0.0, 0.1, 0.35]), change.choice([0.0, 0.0, 0.08, 0.25])
            self._camera.unsettle(change)

    def picture(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """One picture as it lies before the camera, float32 (size, size, 3) RGB, about 0..255; see `photograph`."""
        image = self._surface(rng, size)
        if self._inner is not None:
            image = self._outline.join(rng, image, self._inner._surface(rng, size))
        return image

    def photograph(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        """The picture under light, exposure, blur and noise of its own, uint8 (size, size, 3)."""
        return self._camera.shoot(rng, image)

    def _surface(self, rng: np.random.Generator, size: int) -> np.ndarray:
        stretch = np.exp(rng.normal(0, self._stretch, 2)).clip(0.6, 1.6) if self._stretch else np.ones(2)
        height, width = (round(side) for side in size * self._zoom * stretch)
        drawn = max(height, width)
        field = self._draw(rng, drawn)
        if self._other is not None:
            field = (1 - self._mix) * field + self._mix * self._other(rng, drawn)
        low, high = np.quantile(field[::4, ::4], [0.02, 0.98])
        # A nearly even surface stays so: its little noise is not stretched to full contrast.
        contrast = self._contrast * (np.exp(rng.normal(0, self._lots)) if self._lots else 1.0)
        level = 0.5 + contrast * ((field - (low + high) / 2) / max(high - low, 0.8))
        level = np.clip(level, 0, 1) * (len(self._colors) - 1)
        lower = np.minimum(level.astype(int), len(self._colors) - 2)
        part = (level - lower)[..., None].astype(np.float32)
        image = self._colors[lower] * (1 - part) + self._colors[lower + 1] * part
        if self._blur:
            image = cv2.GaussianBlur(image, (0, 0), float(self._blur))
        image = image[:height, :width]
        if (height, width) != (size, size):
            image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if drawn > size else cv2.INTER_LINEAR)
        return np.asarray(image, np.float32)


class Camera:
    """Light and sensor: how much they change from picture to picture is drawn once per texture."""

    def __init__(self, style: np.random.Generator) -> None:
        unsteady = style.choice([0.3, 1.0, 2.0])
        self._exposure, self._gamma = 0.08 * unsteady, 0.06 * unsteady
        self._tint = 0.01 * unsteady
        self._slope = style.uniform(0, 0.12) * unsteady
        self._noise, self._blur = style.uniform(0, 5), style.uniform(0, 0.5)
        self._jpeg = style.random() < 0.2

    def unsettle(self, change: np.random.Generator) -> None:
        """Let exposure and gamma of some cameras differ more from picture to picture."""
        self._exposure *= change.choice([1.0, 1.0, 3.0])
        self._gamma *= change.choice([1.0, 2.0])

    def shoot(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        """The picture as the sensor gives it, uint8 (size, size, 3)."""
        size = len(image)
        if rng.random() < 0.3:
            image = cv2.GaussianBlur(image, (0, 0), 0.3 + self._blur)
        ramp = np.linspace(-1, 1, size, dtype=np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        light = np.exp(self._slope * (np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp))
        gain = np.exp(rng.normal(0, self._exposure) + rng.normal(0, self._tint, 3)).astype(np.float32)
        image = np.clip(image * light[..., None] * gain, 0, 255)
        image = 255 * (image / 255) ** np.exp(rng.normal(0, self._gamma))
        image = image + self._noise * rng.standard_normal((size, size, 1), dtype=np.float32)
        image = np.clip(image, 0, 255).astype(np.uint8)
        if self._jpeg:
            packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
            image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR))
        return image


class Outline:
    """Where two surfaces meet: an edge, a strip, a disk, a ring of holes; at nearly the same place in every picture."""

    def __init__(self, style: np.random.Generator) -> None:
        self._form = str(style.choice(["edge", "strip", "disk", "holes"]))
        self._angle, self._place = style.uniform(0, 2 * np.pi), style.uniform(-0.25, 0.25, 2)
        self._width, self._jitter = style.uniform(0.1, 0.35), style.uniform(0.0, 0.25)
        self._pitch = style.uniform(0.25, 0.5)
        self._rim, self._soft = style.choice([0.0, style.uniform(-60, 60)]), style.uniform(0.5, 2.5)

    def join(self, rng: np.random.Generator, outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
        """`inner` within the outline, `outer` without, a dark or bright rim between them where there is one."""
        size = len(outer)
        ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
        dx, dy = self._place + rng.normal(0, self._jitter, 2)
        angle = self._angle + rng.normal(0, 0.1 * self._jitter)
        x, y = ramp[None] - dx, ramp[:, None] - dy
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        distance = {
            "edge": lambda: u,
            "strip": lambda: np.abs(u) - self._width / 2,
            "disk": lambda: np.hypot(u, v) - self._width,
            "holes": lambda: np.hypot(_fold(u, self._pitch), _fold(v, self._pitch)) - self._width * self._pitch,
        }[self._form]()
        pixels = (distance * size)[..., None]
        alpha = np.clip(0.5 - pixels / (2 * self._soft), 0, 1)
        rim = self._rim * np.exp(-((pixels / (1.5 * self._soft)) ** 2))
        return np.asarray(alpha * inner + (1 - alpha) * outer + rim, np.float32)


def _fold(values: Field, pitch: float) -> Field:
    return np.asarray((values + 0.5 * pitch) % pitch - 0.5 * pitch)


def _palette(style: np.random.Generator) -> np.ndarray:
    """Two to four colors from dark to light or at random, float32 (n, 3); four in ten are gray."""
    count = int(style.integers(2, 5))
    levels = style.uniform(10, 245, count)
    if style.random() < 0.7:
        levels = np.sort(levels)
    colors = np.repeat(levels[:, None], 3, axis=1)
    if style.random() < 0.6:
        hue = style.normal(0, 1, 3)
        hue /= np.abs(hue).max()
        tint = style.uniform(0.05, 0.5)
        colors = colors * (1 + tint * hue) + style.normal(0, style.choice([2, 25]), (count, 3))
    return np.clip(colors, 0, 255).astype(np.float32)
