"""A drawn dataset of three categories, so that the whole pipeline runs without a download.

`plan` says which images exist, `draw` draws one of them, `write_demo` says where they lie on disk.
Every image has its own random streams: the same seed gives the same bytes, and another image in the
plan changes no other.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from robis.errors import DataError, one_of
from robis.files import atomic_folder, write_mask

VERSION = 1
MARKER = "demo.json"
GENERATOR = "robis demo dataset"

NORMAL = {"train": 12, "validation": 3, "test_public": 3, "test_private": 2, "test_private_mixed": 2}
ANOMALOUS = {"test_public": 6, "test_private": 2, "test_private_mixed": 2}
# (height, width) in pixels; images of a category with two sizes take turns, two by two.
IMAGE_SIZES = {"weave": [(480, 640)], "cans": [(480, 640)], "grains": [(480, 640), (528, 704)]}
DEFECT_PIXELS = {"tiny": (6.0, 12.0), "large": (60.0, 150.0)}
# (kind, size) of the anomalous images, in order and then again from the start.
DEFECTS = {
    "weave": [
        ("stain", "large"),
        ("missing_thread", "tiny"),
        ("foreign_fiber", "large"),
        ("hole", "tiny"),
        ("missing_thread", "large"),
        ("stain", "tiny"),
        ("hole", "large"),
        ("foreign_fiber", "tiny"),
    ],
    "cans": [
        ("scratch", "large"),
        ("dent", "tiny"),
        ("smear", "large"),
        ("scratch", "tiny"),
        ("dent", "large"),
        ("smear", "tiny"),
    ],
    "grains": [
        ("foreign_body", "tiny"),
        ("dark_grain", "large"),
        ("crumbs", "tiny"),
        ("foreign_body", "large"),
        ("dark_grain", "tiny"),
        ("crumbs", "large"),
    ],
}
CATEGORIES = tuple(DEFECTS)


@dataclass(frozen=True)
class ImageSpec:
    """One image of the dataset; `defect` is "good" for a normal image, `defect_size` then None."""

    category: str
    split: str
    index: int
    defect: str
    defect_size: str | None
    height: int
    width: int

    @property
    def is_anomalous(self) -> bool:
        return self.defect != "good"


@dataclass(frozen=True)
class Scene:
    """A normal image, uint8 (H, W, 3) RGB, and the geometry that its defects follow.

    Layers are arrays (H, W) or (H, W, 3) float32 by name; they differ between categories.
    """

    category: str
    image: np.ndarray
    layers: dict[str, np.ndarray]


def plan() -> Iterator[ImageSpec]:
    """List the images; in every split the normal ones come first and each label counts from 0."""
    for category in CATEGORIES:
        sizes, defects = IMAGE_SIZES[category], DEFECTS[category]
        for split, normal in NORMAL.items():
            for index in range(normal):
                yield ImageSpec(category, split, index, "good", None, *sizes[index // 2 % len(sizes)])
            # Each test split starts elsewhere in the list, so that together they show every kind.
            start = list(NORMAL).index(split) * 2 - 4
            for index in range(ANOMALOUS.get(split, 0)):
                kind, size = defects[(start + index) % len(defects)]
                yield ImageSpec(category, split, index, kind, size, *sizes[(index + 1) // 2 % len(sizes)])


def draw(spec: ImageSpec, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image: uint8 (H, W, 3) RGB, and its defect mask, bool (H, W), all False when normal.

    With the same scene and noise a normal and a defective image differ nowhere outside the mask.
    """
    key = f"{spec.category}/{spec.split}/{'bad' if spec.is_anomalous else 'good'}/{spec.index}"
    streams = np.random.SeedSequence([seed, zlib.crc32(key.encode())]).spawn(3)
    for_scene, for_defect, for_camera = map(np.random.default_rng, streams)
    scene = draw_scene(spec.category, for_scene, spec.height, spec.width)
    image, mask = scene.image, np.zeros((spec.height, spec.width), dtype=bool)
    if spec.defect_size is not None:
        image, mask = add_defect(scene, spec.defect, for_defect, spec.defect_size)
    return photograph(image, for_camera, mixed=spec.split.endswith("_mixed")), mask


def draw_scene(category: str, rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw a normal scene, without exposure and sensor noise. Raises DataError for an unknown category."""
    if category not in SCENES:
        raise DataError(f"{category!r} is no category of the demo dataset. {one_of(category, SCENES)}")
    image, layers = SCENES[category](rng, height, width)
    return Scene(category, _to_uint8(image), layers)


def add_defect(scene: Scene, kind: str, rng: np.random.Generator, size: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw a defect: `size` "tiny" is about 6 to 12 px long, "large" about 60 to 150 px.

    Returns the image, uint8 (H, W, 3) RGB, and a bool mask (H, W) of the pixels that changed.
    Raises DataError for a kind that the category does not have, or an unknown size.
    """
    kinds = DEFECT_KINDS[scene.category]
    if kind not in kinds:
        raise DataError(f"{kind!r} is no defect of {scene.category!r}. {one_of(kind, kinds)}")
    if size not in DEFECT_PIXELS:
        raise DataError(f"{size!r} is no defect size. {one_of(size, DEFECT_PIXELS)}")
    paint, alpha = kinds[kind](scene, rng, rng.uniform(*DEFECT_PIXELS[size]))
    # Fainter than this is no change a person could mark; below it the image stays as it is.
    alpha = np.where(alpha > 0.2, alpha, 0)[..., None]
    image = _to_uint8(scene.image * (1 - alpha) + paint * alpha)
    return image, (image != scene.image).any(axis=2)


def photograph(image: np.ndarray, rng: np.random.Generator, *, mixed: bool = False) -> np.ndarray:
    """Add exposure, vignetting and sensor noise, pixel by pixel; `mixed` also changes the light.

    `image` and result: uint8 (H, W, 3) RGB.
    """
    height, width = image.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    light = rng.uniform(0.97, 1.03) * (1 - rng.uniform(0.03, 0.06) * (x * x + y * y))
    tint = np.ones(3)
    if mixed:
        angle, warmth = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1]) * rng.uniform(0.04, 0.12)
        slope = rng.uniform(0.1, 0.3)
        light = light * rng.choice([rng.uniform(0.6, 0.8), rng.uniform(1.1, 1.25)])
        light = light * (1 + slope * (np.cos(angle) * x + np.sin(angle) * y))
        tint = np.array([1 + warmth, 1, 1 - warmth])
    exposed = image * light[..., None].astype(np.float32) * tint.astype(np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    # Photon noise grows with the square root of the light, on top of the readout's constant part.
    return _to_uint8(exposed + noise * np.sqrt(0.5 + 0.009 * exposed))


def write_demo(root: Path, *, seed: int = 0) -> None:
    """Write the dataset in the layout of MVTec AD 2; nothing happens when it is there already.

    A demo dataset of another seed or version is replaced. Raises DataError when `root` is anything
    else, or holds files that this generator did not write.
    """
    root = Path(root).resolve()
    marker = {"generator": GENERATOR, "version": VERSION, "seed": seed}
    if root.exists() and _is_current(root, marker):
        return
    with atomic_folder(root) as folder:
        for spec in plan():
            image, mask = draw(spec, seed)
            path, mask_path = mvtec_ad_2_paths(spec)
            _write_image(folder / path, image)
            if mask_path is not None:
                (folder / mask_path).parent.mkdir(parents=True, exist_ok=True)
                write_mask(folder / mask_path, mask)
        written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
        (folder / MARKER).write_text(json.dumps({**marker, "files": written}, indent=1) + "\n")


def mvtec_ad_2_paths(spec: ImageSpec) -> tuple[str, str | None]:
    """Give the posix paths of image and mask below the dataset's root; the mask's None without one.

    The private splits hold both labels in one folder, normal and anomalous in turn.
    """
    folder = f"{spec.category}/{spec.split}"
    if spec.split in ("test_private", "test_private_mixed"):
        number = 2 * spec.index + spec.is_anomalous
        return f"{folder}/{number:03d}_{'mixed' if spec.split.endswith('_mixed') else 'regular'}.png", None
    stem = f"{spec.index:03d}_regular"
    if not spec.is_anomalous:
        return f"{folder}/good/{stem}.png", None
    return f"{folder}/bad/{stem}.png", f"{folder}/ground_truth/bad/{stem}_mask.png"


def _is_current(root: Path, marker: dict[str, object]) -> bool:
    if root.is_dir() and not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / MARKER).read_text())
        ours = found["generator"] == GENERATOR
        known = {MARKER, *found["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise DataError(
            f"{root}: exists and is no demo dataset (no valid {MARKER} in it). It stays as it is; "
            "expected a new or an empty folder. Give another path or move it away."
        )
    if all(found.get(key) == value for key, value in marker.items()):
        return True
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    if foreign := sorted(present - known):
        raise DataError(
            f"{root}: a demo dataset of seed {found.get('seed')}, version {found.get('version')}, with "
            f"{len(foreign)} file(s) that are not part of it, such as {foreign[0]}. To write the one of "
            f"seed {marker['seed']}, version {VERSION}, move them away or give another path."
        )
    return False


def _write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    path.write_bytes(data.tobytes())


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


# Scenes. Colors are RGB in 0..255; lengths are pixels.


def _weave(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A 2/2 twill: u counts warp yarns across, v weft yarns down; where the wave is high, warp lies on top."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    turn, skew, pitch = rng.uniform(-0.07, 0.07), rng.uniform(-0.04, 0.04), rng.uniform(8.6, 9.4)
    u = (np.cos(turn) * x + np.sin(turn) * y) / pitch + 0.25 * _clouds(rng, height, width, 70)
    v = (np.cos(turn) * y - (np.sin(turn) + skew) * x) / pitch + 0.25 * _clouds(rng, height, width, 70)
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
        tone = rng.normal(1, 0.045, count).astype(np.float32)[yarn] * (1 + 0.12 * slub)
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
    folds = (1 + 0.035 * _clouds(rng, height, width, 200))[..., None]
    layers = {"warp": yarns[0], "weft": yarns[1], "u": u, "v": v}
    layers["only_warp"] = _blur(flats[0][..., None] * colors[0] * folds, 0.6)
    layers["only_weft"] = _blur(flats[1][..., None] * colors[1] * folds, 0.6)
    return _blur(image * folds, 0.6), layers


def _cans(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A can seen from above: lathe-turned lid with a printed ring and a tab, on a dark conveyor belt."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = rng.uniform(0.395, 0.415) * min(height, width)
    x0, y0 = width / 2 + rng.uniform(-40, 40), height / 2 + rng.uniform(-18, 18)
    turn, light = rng.uniform(0, 2 * np.pi), rng.uniform(-2.5, -2.2)
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
    ink = (printed[..., 3:] / 255) * _edge((np.abs(r - np.mean(PRINT_RING)) - 0.1)[..., None] * radius)
    image = image * (1 - ink) + printed[..., :3] * (0.45 + metal / 230)[..., None] * ink
    # The tab, in the lid's own axes: a rounded plate with a finger hole and a rivet, and its shadow.
    tx, ty = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    plate = np.hypot(np.clip(np.abs(tx - 0.12) - 0.16, 0, None), np.clip(np.abs(ty) - 0.03, 0, None)) - 0.09
    hole = np.hypot(np.clip(np.abs(tx - 0.2) - 0.05, 0, None), ty) - 0.06
    tab = np.maximum(plate, -hole) * radius
    shadow = cv2.warpAffine(_edge(tab), np.float32([[1, 0, 4], [0, 1, 5]]), (width, height))
    image *= 1 - 0.45 * _blur(shadow, 2.5)[..., None]
    bevel = np.clip(1 + tab / 5, 0, 1) * np.cos(np.arctan2(ty, tx - 0.12) + turn - light)
    plain = 158 + 40 * bevel + 25 * np.cos(3 * tx - light) - 45 * (np.abs(np.hypot(tx, ty) - 0.05) < 0.008)
    image += (plain[..., None] - image) * _edge(tab)[..., None]
    belt = 52 + 5 * _clouds(rng, height, width, 60) + 4 * rng.standard_normal((height, width), dtype=np.float32)
    belt *= 1 - 0.6 * np.exp(-np.clip(np.hypot(x - x0 - 8, y - y0 - 10) - radius, 0, None) / 12)
    belt = _blur(belt, 0.8)[..., None] * np.array([0.96, 1, 1.06], dtype=np.float32)
    on_can = _edge((r - 1) * radius)[..., None]
    layers = {"r": r, "angle": angle, "center": np.array([x0, y0]), "radius": np.array(radius)}
    return _blur(belt * (1 - on_can) + image * on_can, 0.6), layers


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
    shade = tone * (0.5 + 0.42 * lit) * (1 - 0.45 * hilum) * (1 + 0.03 * _clouds(rng, height, width, 5))
    color = np.array([214, 186, 142], dtype=np.float32) + hue[..., None] * np.array([3, 6, 9], dtype=np.float32)
    gloss = 70 * np.clip(lit - 0.72, 0, 1)[..., None]
    shade *= _cast(order.astype(np.float32))
    shade *= np.where(order == 0, 0.3, 1)
    return _blur(shade[..., None] * color + gloss, 0.6), {"order": order, "x0": x0, "y0": y0}


def _cast(order: np.ndarray) -> np.ndarray:
    """Shadow factor (H, W): darker where something later in the pile lies toward the light, up and left."""
    shadow = np.zeros(order.shape, dtype=np.float32)
    for step in (2, 5):
        moved = cv2.warpAffine(order, np.float32([[1, 0, step], [0, 1, step]]), order.shape[::-1])
        shadow += 0.3 * (moved > order)
    return 1 - _blur(shadow, 1.5)


# Defects: each gives what to paint, broadcastable to (H, W, 3), and how opaque, (H, W) in 0..1.


def _stain(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    inside = _blob(rng, _place(scene, rng, length), length, scene.image.shape)
    ring = np.exp(-((inside - 3) ** 2) / 8)
    strength = 0.35 + 0.25 * ring + (0.3 if length < 20 else 0)
    return scene.image * np.array([0.62, 0.46, 0.3]), strength * np.clip(inside / 2, 0, 1)


def _hole(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    center = _place(scene, rng, length)
    torn = _blob(rng, center, length, scene.image.shape)
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
    thick = 2 if length < 20 else 3
    line = _curve(rng, _place(scene, rng, length), length - thick, scene.image.shape, thick, 0.9)
    return color * (0.75 + 0.25 * _blur(line, 1)[..., None]), line


def _scratch(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    thick = 2 if length < 20 else 3
    line = _curve(rng, _place(scene, rng, length), length - thick, scene.image.shape, thick, 0.25)
    # A burr: lit on one side, dark on the other.
    lit = cv2.Sobel(_blur(line, 1), cv2.CV_32F, 0, 1) + cv2.Sobel(_blur(line, 1), cv2.CV_32F, 1, 0)
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
    """Ink dragged around the axis of the can: the picture averaged along the angle, on a ragged patch."""
    center, x0, y0 = _place(scene, rng, length, PRINT_RING), *scene.layers["center"]
    patch = np.clip(_blob(rng, center, length, scene.image.shape, 0.5) / 1.5, 0, 1)
    streaks = np.interp(scene.layers["r"] * float(scene.layers["radius"]), np.arange(400), rng.uniform(0.6, 1, 400))
    ink = np.array([118, 30, 38]) * (0.7 + scene.image.mean(axis=2, keepdims=True) / 400)
    return ink, patch * streaks


def _foreign_body(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    """A stone, a twig or a piece of plastic; later beans of the pile cover a large one in part."""
    color, squash = [((112, 112, 116), 0.75), ((74, 56, 40), 0.22), ((46, 92, 158), 0.5)][rng.integers(3)]
    inside = _blob(rng, _place(scene, rng, length), length, scene.image.shape, squash if length > 20 else 0.75)
    order = scene.layers["order"]
    depth = np.quantile(order[inside > 0], 0.8) if length > 20 else order.max() + 1
    seen = np.where(order < depth, np.clip(inside, 0, 1), 0)
    gy, gx = np.gradient(_blur(np.minimum(inside, 6), 1.5))
    rough = 1 + 0.07 * _clouds(rng, *seen.shape, 3)
    shade = (0.85 + 0.4 * (gx + gy)) * rough * _cast(np.where(seen > 0, depth, order).astype(np.float32))
    return np.array(color) * shade[..., None], seen


def _dark_grain(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    """A spot on one bean, or a nest of moldy ones."""
    order, x0, y0 = (scene.layers[name] for name in ("order", "x0", "y0"))
    height, width = order.shape
    area = np.bincount(order.ravel(), minlength=len(x0) + 1)[1:]
    room = np.minimum(np.minimum(x0, width - x0), np.minimum(y0, height - y0)) > length / 2 + 8
    bean = rng.choice(np.flatnonzero(room & (area > np.quantile(area[area > 0], 0.7))))
    if length < 20:
        spot = _blob(rng, np.array([x0[bean], y0[bean]]), length, scene.image.shape)
        return scene.image * 0.3, np.where(order == bean + 1, np.clip(spot / 1.5, 0, 1), 0)
    nest = np.flatnonzero(np.hypot(x0 - x0[bean], y0 - y0[bean]) <= max(0, length - 46) / 2)
    mold = 0.5 + 0.14 * _clouds(rng, height, width, 5)
    return scene.image * mold[..., None] * np.array([0.82, 0.86, 0.95]), np.isin(order, nest + 1) * 1.0


def _crumbs(scene: Scene, rng: np.random.Generator, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of broken beans, pale where they broke."""
    height, width = scene.image.shape[:2]
    center = _place(scene, rng, length)
    count = 1 if length < 20 else int(length * length / 70)
    reach = (length - 12) / 2 * np.sqrt(rng.uniform(0, 1, count)) if count > 1 else np.zeros(1)
    side, towards = min(length, 13) / 2, rng.uniform(0, 2 * np.pi, count)
    pieces = np.zeros((height, width), dtype=np.int32)
    for i in range(count):
        t = np.sort(rng.uniform(0, 2 * np.pi, 3)) + np.array([0, 0.3, 0.6])
        t = np.concatenate([t, t[:1] + np.pi])
        points = center + reach[i] * np.array([np.cos(towards[i]), np.sin(towards[i])])
        points = points + side * rng.uniform(0.75, 1) * np.stack([np.cos(t), np.sin(t)], axis=1)
        cv2.fillConvexPoly(pieces, cv2.convexHull(np.rint(points * 16).astype(np.int32)), i + 1, shift=4)
    tone = np.concatenate([[0], rng.uniform(0.72, 1.08, count)])[pieces]
    shade = _blur((tone * _cast(pieces.astype(np.float32))).astype(np.float32), 0.5)
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


def _blob(
    rng: np.random.Generator, center: np.ndarray, length: float, shape: tuple[int, ...], squash: float = 0.8,
    turn: float | None = None,
) -> np.ndarray:  # fmt: skip
    """Distance in pixels, float32 (H, W), from the inside to the wavy border of a patch; negative outside."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    turn = rng.uniform(0, 2 * np.pi) if turn is None else turn
    p = (x - center[0]) * np.cos(turn) + (y - center[1]) * np.sin(turn)
    q = ((y - center[1]) * np.cos(turn) - (x - center[0]) * np.sin(turn)) / squash
    angle = np.arctan2(q, p)
    wave = sum(rng.uniform(0, 1) / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 8))
    wave = (wave - np.min(wave)) / (np.max(wave) - np.min(wave))
    return ((length / 2 * (0.72 + 0.28 * wave) - np.hypot(p, q)) * np.sqrt(squash)).astype(np.float32)


def _curve(
    rng: np.random.Generator, center: np.ndarray, length: float, shape: tuple[int, ...], thick: int, curl: float
) -> np.ndarray:
    """Coverage 0..1, float32 (H, W), of a smooth random line whose ends or bends lie `length` apart."""
    heading = rng.uniform(0, 2 * np.pi) + curl * np.cumsum(np.convolve(rng.normal(0, 1, 40), np.ones(12) / 12))
    points = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0)
    points = (points - (points.max(0) + points.min(0)) / 2) * length / np.ptp(points, axis=0).max() + center
    line = np.zeros(shape[:2], dtype=np.uint8)
    cv2.polylines(line, [np.rint(points * 16).astype(np.int32)], False, 255, thick, cv2.LINE_AA, shift=4)
    return line.astype(np.float32) / 255


def _clouds(rng: np.random.Generator, height: int, width: int, scale: float) -> np.ndarray:
    """Smooth noise, float32 (H, W), of about unit spread; `scale` is the size of its lumps in pixels."""
    coarse = rng.standard_normal((int(height / scale) + 3, int(width / scale) + 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)


def _edge(distance: np.ndarray) -> np.ndarray:
    """Coverage of a pixel whose signed distance to a border, in pixels, is negative inside."""
    return np.clip(0.5 - distance, 0, 1)


LID_HEIGHT = [
    (0, 0), (0.44, 0), (0.47, -0.02), (0.5, 0), (0.54, 0), (0.8, 0.0), (0.82, 0.02), (0.845, 0.02),
    (0.87, -0.05), (0.9, -0.05), (0.94, 0.06), (0.97, 0.065), (1.0, 0.0), (1.05, -0.08),
]  # fmt: skip
PRINT_RING = (0.57, 0.77)
SCENES: dict[str, Callable[..., tuple[np.ndarray, dict[str, np.ndarray]]]] = {
    "weave": _weave,
    "cans": _cans,
    "grains": _grains,
}
DEFECT_KINDS: dict[str, dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]]] = {
    "weave": {
        "stain": _stain, "missing_thread": _missing_thread, "hole": _hole, "foreign_fiber": _foreign_fiber
    },
    "cans": {"scratch": _scratch, "dent": _dent, "smear": _smear},
    "grains": {"foreign_body": _foreign_body, "dark_grain": _dark_grain, "crumbs": _crumbs},
}  # fmt: skip
