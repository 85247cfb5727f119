"""A drawn dataset of three categories, so that the whole pipeline runs without a download.

`plan` says which images exist, `draw` draws one of them, `write_demo` writes them in any layout.
Every image has its own random streams: the same seed gives the same bytes, and another image in the
plan changes no other.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from robis.demo.defects import DEFECT_KINDS
from robis.demo.layouts import DEMO_LAYOUTS, ImageSpec
from robis.demo.scenes import SCENES, Scene, to_uint8
from robis.errors import DataError, one_of
from robis.io.atomic import atomic_folder

VERSION = 3
MARKER = "demo.json"
GENERATOR = "robis demo dataset"

NORMAL = {"train": 12, "validation": 3, "test_public": 3, "test_private": 2, "test_private_mixed": 2}
ANOMALOUS = {"test_public": 6, "test_private": 2, "test_private_mixed": 2}
# (height, width) in pixels; images of a category with two sizes take turns, two by two.
IMAGE_SIZES = {"weave": [(480, 640)], "cans": [(480, 640)], "grains": [(480, 640), (528, 704)]}
DEFECT_PIXELS = {"small": (14.0, 26.0), "large": (60.0, 150.0)}
# (kind, size) of the anomalous images, in order and then again from the start.
DEFECTS = {
    "weave": [
        ("stain", "large"),
        ("missing_thread", "small"),
        ("foreign_fiber", "large"),
        ("hole", "small"),
        ("missing_thread", "large"),
        ("stain", "small"),
        ("hole", "large"),
        ("foreign_fiber", "small"),
    ],
    "cans": [
        ("scratch", "large"),
        ("dent", "small"),
        ("smear", "large"),
        ("scratch", "small"),
        ("dent", "large"),
        ("smear", "small"),
    ],
    "grains": [
        ("foreign_body", "small"),
        ("dark_grain", "large"),
        ("crumbs", "small"),
        ("foreign_body", "large"),
        ("dark_grain", "small"),
        ("crumbs", "large"),
    ],
}
CATEGORIES = tuple(DEFECTS)


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
    return Scene(category, to_uint8(image), layers)


def add_defect(scene: Scene, kind: str, rng: np.random.Generator, size: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw a defect: `size` "small" is about 14 to 26 px long, "large" about 60 to 150 px.

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
    image = to_uint8(scene.image * (1 - alpha) + paint * alpha)
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
    return to_uint8(exposed + noise * np.sqrt(0.5 + 0.009 * exposed))


def write_demo(root: Path, *, seed: int = 0, layout: str = "mvtec_ad_2") -> None:
    """Write the dataset in a layout; nothing happens when it is there already.

    The pixels are the same in every layout; `DEMO_LAYOUTS` says which images each has a place for. A demo
    dataset of another seed, layout or version is replaced. Raises DataError when `root` is anything else, or
    holds files that this generator did not write.
    """
    if layout not in DEMO_LAYOUTS:
        raise DataError(f"{layout!r} is no layout. {one_of(layout, DEMO_LAYOUTS)}")
    root = Path(root).resolve()
    marker = {"generator": GENERATOR, "version": VERSION, "seed": seed, "layout": layout}
    if root.exists() and _is_current(root, marker):
        return
    place_of = DEMO_LAYOUTS[layout].place
    placed = [(spec, place) for spec in plan() if (place := place_of(spec))]
    with atomic_folder(root) as folder:
        for spec, place in placed:
            image, mask = draw(spec, seed)
            _write_pixels(folder / place.image, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
            for name, pixels in place.mask_files(mask):
                _write_pixels(folder / name, pixels)
        for name, text in DEMO_LAYOUTS[layout].tables(placed).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        (folder / MARKER).write_text(json.dumps({**marker, "files": written}, indent=1) + "\n")


def _is_current(root: Path, marker: dict[str, object]) -> bool:
    if root.is_dir() and not any(root.iterdir()):
        return False
    try:
        # Markers without a layout are from when there was one.
        written = {"layout": "mvtec_ad_2", **json.loads((root / MARKER).read_text())}
        ours = written["generator"] == GENERATOR
        known = {MARKER, *written["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise DataError(
            f"{root}: exists and is no demo dataset (no valid {MARKER} in it). It stays as it is; "
            "expected a new or an empty folder. Give another path or move it away."
        )
    if all(written.get(key) == value for key, value in marker.items()):
        return True
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    if foreign := sorted(present - known):
        raise DataError(
            f"{root}: a demo dataset of seed {written.get('seed')}, layout {written.get('layout')}, version "
            f"{written.get('version')}, with {len(foreign)} file(s) that are not part of it, such as {foreign[0]}. "
            f"To write the one of seed {marker['seed']}, layout {marker['layout']}, version {VERSION}, move them "
            f"away or give another path."
        )
    return False


def _write_pixels(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 (H, W) or (H, W, 3) BGR in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 4 if pixels.ndim == 3 else 3] if path.suffix == ".png" else []
    _, data = cv2.imencode(path.suffix, pixels, options)
    path.write_bytes(data.tobytes())
