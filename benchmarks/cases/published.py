"""Stages beside the published RoBiS code on the same images, tiles and weights: seconds, memory, and values.

`--set code=FOLDER` names a checkout of the published code, which robis does not contain. Each side runs in processes of
its own, in turns, on the CPU, with ViT-S/14 with registers as the encoder (published: ViT-B) and few images and steps.
SAM is vit_b, as published for one of two splits. All weights are random, drawn once into files that both sides load.

Two things differ. The published code cuts windows of full size, which training and inference resize each time; robis
resizes once, in `crop`. And it loads tiles in four processes of their own, whose memory is not counted. Its evaluation
after training is left out: it needs ground truth and has no part in the result. SAM refines gray images of the size of
their masks, because the published code gives SAM BGR and resizes images in another way than robis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch
from safetensors.torch import load_file

from benchmarks import harness, inputs
from benchmarks.cases.merge import write_tile_maps
from benchmarks.models import make_everything_count
from benchmarks.plain import published as plain
from benchmarks.published_calls import ENCODER, SCALE, WINDOW
from benchmarks.sam_models import coarse_mask, random_sam
from robis.detectors.inp_former.model import InpFormer, initialize
from robis.detectors.reconstruction.optimizer import learning_rate
from robis.encoders.encoder import Choice
from robis.encoders.vit import build_vit

OTHER = "the published RoBiS code"
# Steps of the training whose losses and weights are compared: the first has a learning rate of 0.
COMPARED_STEPS = 3
UNITS = ("seconds", "cpu_seconds")
WIDTH, DEPTH, PATCH, GRID, REGISTERS = 384, 12, 14, 37, 4


@dataclass(frozen=True)
class Sizes:
    """What is compared, and how much of it.

    Attributes:
        code: folder of a checkout of the published code.
        stages: of `STAGES`, separated by "+".
        train, test: images of each split, of this height and width in pixels: two windows of 1024 along each axis.
        tile: side of a tile in pixels.
        epochs, batch: of the timed training.
        maps: anomaly maps that are merged, and that are binarized.
        refined: images that SAM refines.
    """

    code: str = ""
    stages: str = "crop+train+infer+merge+binarize+refine"
    train: int = 2
    test: int = 2
    height: int = 1900
    width: int = 1400
    tile: int = 518
    epochs: int = 2
    batch: int = 4
    maps: int = 40
    refined: int = 2


FULL = Sizes()
QUICK = Sizes(stages="crop+merge+binarize", train=1, test=1, height=1100, width=1030, tile=56, epochs=2, maps=3)


def rows(options: harness.Options, sizes: Sizes) -> Iterator[harness.Row | harness.Fact]:
    """A row per stage. Raises SystemExit for a folder or a stage that there is not."""
    if not sizes.code:
        why = "not part of robis; --set code=FOLDER names a checkout of it"
        yield harness.Fact("Code that was not measured", "published", {"code": "RoBiS", "why": why})
        return
    stages = sizes.stages.split("+")
    if unknown := [name for name in stages if name not in STAGES]:
        raise SystemExit(f"--set stages={sizes.stages}: no stage {unknown[0]!r}. Valid: {', '.join(STAGES)}.")
    plain.require_code(Path(sizes.code))
    run = _Run(options, replace(sizes, code=str(Path(sizes.code).resolve())), options.folder)
    if {"train", "infer"} & set(stages) and "crop" not in stages:
        run.cut()
    for name, stage in STAGES.items():
        if name in stages:
            yield stage(run)


@dataclass(frozen=True)
class _Run:
    """One run of the benchmark in its folder."""

    options: harness.Options
    sizes: Sizes
    folder: Path

    def theirs(self, function: str, **arguments: Any) -> harness.Call:
        """A stage of the published code."""
        return harness.Call(
            f"benchmarks.plain.published:{function}", {"code": self.sizes.code, "folder": str(self.folder), **arguments}
        )

    def ours(self, function: str, **arguments: Any) -> harness.Call:
        """A stage of robis."""
        own = {"folder": str(self.folder), "threads": self.options.threads}
        return harness.Call(f"benchmarks.published_calls:{function}", own | arguments)

    def alone(self, call: harness.Call) -> Any:
        """The result of a call in a process of its own."""
        return harness.run_alone(call, self.options.threads, self.folder / "result.npy").result

    def compared(
        self, work: harness.Work, calls: tuple[harness.Call, harness.Call], equal: harness.Equal, repeats: int
    ) -> harness.Row:
        """The row of a stage."""
        chosen = replace(self.options, repeats=min(self.options.repeats, repeats))
        return harness.compare_processes(work, *calls, equal, chosen)

    @property
    def tiles(self) -> int:
        """Tiles of an image: two windows along each axis."""
        return 4

    def cut(self) -> None:
        """Images of both splits, cut by both sides."""
        _write_images(self.folder, self.sizes)
        for call in self.crops:
            self.alone(call)

    @property
    def crops(self) -> tuple[harness.Call, harness.Call]:
        return self.theirs("crop"), self.ours("crop", tile=self.sizes.tile)


def _crop(run: _Run) -> harness.Row:
    sizes = run.sizes
    _write_images(run.folder, sizes)
    count = sizes.train + sizes.test
    what = f"{count} PNG images of {sizes.height} x {sizes.width} to {count * run.tiles} tiles of {sizes.tile} px"
    note = "the other side has not resized its windows yet"

    def equal(_theirs: Any, _ours: Any) -> str:
        loaded = run.alone(run.theirs("loaded_tiles", tile=sizes.tile))
        tiles = np.concatenate([np.load(run.folder / f"{split}.npy") for split in ("train", "test")])
        harness.require(np.array_equal(loaded, tiles), "tiles differ")
        return "tiles bit-identical"

    return run.compared(harness.Work("crop", what, OTHER, note=note), run.crops, equal, 3)


def _train(run: _Run) -> harness.Row:
    sizes = run.sizes
    _write_weights(run.folder)
    steps = sizes.train * run.tiles // sizes.batch * sizes.epochs
    what = f"{steps} steps of {sizes.batch} tiles of {sizes.tile} px, {ENCODER}, with the start of the training"
    arguments = {"tile": sizes.tile, "epochs": sizes.epochs, "batch_size": sizes.batch}
    calls = run.theirs("train", **arguments), run.ours("train", **arguments)
    notes: list[str] = []

    def equal(theirs: dict[str, list[float]], ours: dict[str, list[float]]) -> str:
        seconds, cpu_seconds = (
            " and ".join(f"{np.diff(side[unit]).mean():.2f}" for side in (theirs, ours)) for unit in UNITS
        )
        notes.append(f"{seconds} s and {cpu_seconds} CPU s per step after the first")
        return _same_training(run)

    row = run.compared(harness.Work("train", what, OTHER), calls, equal, 2)
    return replace(row, work=replace(row.work, note=notes[0]))


def _infer(run: _Run) -> harness.Row:
    sizes = run.sizes
    _write_weights(run.folder)
    count = sizes.test * run.tiles
    what = f"{count} tiles of {sizes.tile} px to maps, {ENCODER}, with the loading of the model"
    arguments = {"tile": sizes.tile, "batch_size": 16}
    calls = run.theirs("infer", **arguments), run.ours("infer", **arguments)

    def equal(raw: np.ndarray, _ours: Any) -> str:
        maps = run.alone(run.ours("maps", **arguments))
        difference = float(np.abs(maps - raw).max())
        harness.require(bool(raw.std() > 1e-3), "maps are flat and would agree with anything")
        harness.require(difference < 2e-5, f"maps differ by {difference:.1e}")
        stored = np.load(run.folder / "ours.npy").astype(np.float32)
        harness.require(bool(np.abs(stored - maps).max() <= 2e-3), "maps on disk are not these maps")
        return f"raw maps from {raw.min():.2g} to {raw.max():.2g} differ by at most {difference:.0e}"

    return _with_each(run.compared(harness.Work("infer", what, OTHER), calls, equal, 3), count, "tile")


def _merge(run: _Run) -> harness.Row:
    sizes, size = run.sizes, (run.sizes.height, run.sizes.width)
    table = write_tile_maps(run.folder, sizes.maps, size, WINDOW)
    inputs.write_samples(run.folder / "samples.parquet", sizes.maps, size)
    raw = np.load(run.folder / "tile_maps.npy").astype(np.float32)
    scaled = (raw - raw.min()) / (raw.max() - raw.min()) * 255
    files = run.folder / "tile_maps"
    files.mkdir()
    for values, name, row, col in zip(scaled, table["sample_id"], table["row"], table["col"], strict=True):
        inputs.write_map(files / f"{name}_{row}{col}.tiff", values.astype(np.float16))
    what = f"{sizes.maps} images of {run.tiles} tile maps to {round(size[0] * SCALE)} x {round(size[1] * SCALE)}"
    calls = run.theirs("merge", height=size[0], width=size[1]), run.ours("merge")

    def equal(_theirs: Any, _ours: Any) -> str:
        published = run.folder / "published_maps" / plain.CATEGORY / plain.SPLIT
        # Sizes that four does not divide are rounded here and truncated there.
        shape = (size[0] // 4, size[1] // 4)
        worst = 0.0
        for name in inputs.names(sizes.maps):
            theirs = tifffile.imread(published / f"{name}.tiff").astype(np.float32)
            ours = tifffile.imread(run.folder / "out" / "maps" / f"{name}.tiff").astype(np.float32)
            worst = max(worst, float(np.abs(theirs - ours[: shape[0], : shape[1]]).max()))
        harness.require(worst <= 0.5, f"maps differ by {worst:.2g} of 255")
        return f"maps differ by at most {worst:.2g} of 255"

    return run.compared(harness.Work("merge", what, OTHER), calls, equal, 3)


def _binarize(run: _Run) -> harness.Row:
    sizes = run.sizes
    size = (sizes.height // 4, sizes.width // 4)
    rng = np.random.default_rng(0)
    maps = [inputs.map_and_truth(rng, size, inputs.defects_of(number))[0] for number in range(sizes.maps)]
    inputs.write_maps(run.folder / "maps", maps)
    inputs.write_samples(run.folder / "samples.parquet", sizes.maps, size)
    calls = run.theirs("binarize"), run.ours("binarize")

    def equal(_theirs: Any, _ours: Any) -> str:
        folder = run.folder / "bin" / "anomaly_images_thresholded" / plain.CATEGORY / plain.SPLIT
        return _same_masks(folder, run.folder / "out" / "coarse", 1e-4)

    what = f"{sizes.maps} maps of {size[0]} x {size[1]} to coarse masks"
    return run.compared(harness.Work("binarize", what, OTHER), calls, equal, 3)


def _refine(run: _Run) -> harness.Row:
    sizes, folder = run.sizes, run.folder
    size = (sizes.height // 4, sizes.width // 4)
    torch.save(random_sam("vit_b").state_dict(), folder / plain.SAM_FILE)
    rng = np.random.default_rng(0)
    images = f"{plain.CATEGORY}/{plain.SAM_SPLIT}/{{}}.png"
    inputs.write_samples(folder / "sam.parquet", sizes.refined, size, images=images)
    for name in inputs.names(sizes.refined):
        gray = inputs.photo(rng, size)[..., :1].repeat(3, axis=2)
        inputs.write_png(folder / "sam_data" / images.format(name), gray)
        inputs.write_png(folder / "masks" / f"{name}.png", coarse_mask(*size).astype(np.uint8) * 255)
    calls = run.theirs("refine"), run.ours("refine")

    def equal(_theirs: Any, _ours: Any) -> str:
        published = folder / "sam" / "anomaly_images_thresholded" / plain.CATEGORY / plain.SAM_SPLIT
        return _same_masks(published, folder / "out" / "sam", 1e-4)

    what = f"SAM vit_b, {sizes.refined} gray images of {size[0]} x {size[1]}, 3 boxes each, with its loading"
    return _with_each(run.compared(harness.Work("refine", what, OTHER), calls, equal, 2), sizes.refined, "image")


STAGES: dict[str, Callable[[_Run], harness.Row]] = {
    "crop": _crop,
    "train": _train,
    "infer": _infer,
    "merge": _merge,
    "binarize": _binarize,
    "refine": _refine,
}


def _same_training(run: _Run) -> str:
    """Losses and trained weights of some steps from the same weights, on all tiles at once, without augmentation."""
    sizes, folder = run.sizes, run.folder
    arguments = {"tile": sizes.tile, "epochs": COMPARED_STEPS, "batch_size": sizes.train * run.tiles}
    theirs = run.alone(run.theirs("train", start="start.pth", **arguments))
    ours = run.alone(run.ours("train", augment=False, **arguments))
    loss = max(abs(a / b - 1) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
    harness.require(loss < 1e-5, f"losses are {theirs['losses']} and {ours['losses']}")
    start = torch.load(folder / "start.pth")
    trained = torch.load(folder / "trained" / "model" / plain.CATEGORY / "model.pth")
    model = load_file(folder / "ours" / "model.safetensors")
    moves = {name: trained[name] - start[name] for name in model}
    move = max(float(values.abs().max()) for values in moves.values())
    apart = max(float((model[name] - trained[name]).abs().max()) for name in model)
    square = sum(float((model[name] - trained[name]).square().sum()) for name in model)
    part = (square / sum(float(values.square().sum()) for values in moves.values())) ** 0.5
    harness.require(move > 0 and part < 1e-2, f"weights move by up to {move:.1e} and differ by {part:.1e} of the moves")
    steps = range(len(theirs["rates"]))
    rates = [learning_rate(step, len(steps), warmup=100, highest=1e-3, final=1e-4) for step in steps]
    harness.require(bool(np.allclose(rates, theirs["rates"], rtol=1e-9, atol=0)), "learning rates differ")
    return (
        f"losses of {COMPARED_STEPS} steps differ by at most {loss:.0e} of their size; weights, which move by up to "
        f"{move:.0e}, by {apart:.0e}, all together by {part:.0e} of the moves; learning rates equal"
    )


def _same_masks(theirs: Path, ours: Path, allowed: float) -> str:
    """Pixels of all masks that differ, at most so large a part of all."""
    different = pixels = marked = 0
    files = sorted(ours.glob("*.png"))
    harness.require([file.name for file in files] == sorted(file.name for file in theirs.glob("*.png")), "other files")
    for file in files:
        mask, other = (np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)) for path in (file, theirs / file.name))
        different += int(np.count_nonzero(mask != other))
        pixels += mask.size
        marked += bool(mask.any() and not mask.all())
    harness.require(different <= allowed * pixels, f"{different} of {pixels} pixels differ")
    harness.require(marked > 0, "all masks are empty or full")
    return f"{different} of {pixels} pixels differ" if different else "masks bit-identical"


def _with_each(row: harness.Row, count: int, unit: str) -> harness.Row:
    """Say what one step or tile takes."""
    theirs, ours = (float(np.median(side.seconds)) / count for side in (row.plain, row.ours))
    note = f"{theirs:.2f} and {ours:.2f} s per {unit}"
    return replace(row, work=replace(row.work, note=note))


def _write_images(folder: Path, sizes: Sizes) -> None:
    """The images of both splits in the layout of MVTec AD 2, and their sample tables."""
    rng, size = np.random.default_rng(0), (sizes.height, sizes.width)
    places = {"train": ("train/good", sizes.train), "test": (plain.SPLIT, sizes.test)}
    for split, (place, count) in places.items():
        images = f"{plain.CATEGORY}/{place}/{{}}.png"
        inputs.write_samples(folder / f"{split}.parquet", count, size, images=images)
        for name in inputs.names(count):
            inputs.write_png(folder / "data" / images.format(name), inputs.photo(rng, size))


def _write_weights(folder: Path) -> None:
    """The encoder in the DINOv2 repository's key names, start weights, and a checkpoint in which everything counts."""
    encoder = _dinov2_state()
    file = folder / "backbones" / "weights" / plain.ENCODER_FILE
    checkpoint = folder / "checkpoint" / "model" / plain.CATEGORY / "model.pth"
    for path in (file, checkpoint):
        path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(encoder, file)
    model = InpFormer(build_vit(Choice(ENCODER, str(file))))
    frozen = {f"encoder.{name}": value for name, value in encoder.items()}
    initialize(model, 0)
    torch.save(frozen | model.trainable(), folder / "start.pth")
    make_everything_count(model)
    torch.save(frozen | model.trainable(), checkpoint)


def _dinov2_state() -> dict[str, torch.Tensor]:
    """Random weights of ViT-S/14 with registers."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, std: float = 0.02, mean: float = 0.0) -> torch.Tensor:
        return mean + std * torch.randn(shape, generator=generator)

    state = {
        "cls_token": normal(1, 1, WIDTH),
        "pos_embed": normal(1, GRID**2 + 1, WIDTH),
        "register_tokens": normal(1, REGISTERS, WIDTH),
        "mask_token": normal(1, WIDTH),
        "patch_embed.proj.weight": normal(WIDTH, 3, PATCH, PATCH, std=(3 * PATCH**2) ** -0.5),
        "patch_embed.proj.bias": normal(WIDTH),
        "norm.weight": normal(WIDTH, mean=1),
        "norm.bias": normal(WIDTH),
    }
    for number in range(DEPTH):
        block = f"blocks.{number}."
        for name in ("norm1", "norm2"):
            state |= {f"{block}{name}.weight": normal(WIDTH, mean=1), f"{block}{name}.bias": normal(WIDTH)}
        for name, outputs, width in (
            ("attn.qkv", 3 * WIDTH, WIDTH),
            ("attn.proj", WIDTH, WIDTH),
            ("mlp.fc1", 4 * WIDTH, WIDTH),
            ("mlp.fc2", WIDTH, 4 * WIDTH),
        ):
            state[f"{block}{name}.weight"] = normal(outputs, width, std=width**-0.5)
            state[f"{block}{name}.bias"] = normal(outputs)
        state |= {f"{block}{name}.gamma": normal(WIDTH, std=0.1, mean=1) for name in ("ls1", "ls2")}
    return state
