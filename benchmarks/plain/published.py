"""Stages of the published RoBiS code, called in a checkout of it that is not part of robis.

Each function sets a stage up in a process of its own (`benchmarks.harness.Call`) and returns what is timed. Nothing of
the published code is copied or changed on disk. What it needs to run here is set at run time: it sees no GPU, works in
the benchmark's folder, knows one category of the benchmark's image size, starts from given weights, and finds functions
that newer packages have renamed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import tifffile

# Its scripts go through a fixed list of categories; the tables of sizes say how large an image is.
CATEGORY = "vial"
CATEGORIES = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")
SPLIT, SAM_SPLIT = "test_private", "test_private_mixed"
ENCODER, ENCODER_FILE = "dinov2reg_vit_small_14", "dinov2_vits14_reg4_pretrain.pth"
SAM_FILE = "sam_vit_b_01ec64.pth"
NEEDED = ("swin-cropping.py", "INP_Former_Single_Class.py", "merging.py", "binarization.py", "SAM-Finer.py")
WINDOW, MAP_SIDE, OVERLAP = 1024, 256, 0.1
# Modules that are imported and not used in these stages, and what is taken from them.
UNUSED = {"adeval": "EvalAccumulatorCuda", "tkinter.tix": "MAIN"}


def require_code(code: Path) -> None:
    """Raise SystemExit where a folder is no checkout of the published code."""
    missing = [name for name in NEEDED if not (code / name).is_file()]
    if missing:
        raise SystemExit(
            f"--set code={code}: no {', '.join(missing)}; expected a folder with the published RoBiS code."
        )


def crop(code: str, folder: str) -> Callable[[], None]:
    """Images of the category to windows as PNG files."""
    script = _script(code, folder, "swin-cropping.py")
    output = Path("processed")

    def run() -> None:
        shutil.rmtree(output, ignore_errors=True)
        script.crop(path="data", crop_path=str(output), window_size=WINDOW, desired_overlap=OVERLAP)

    return run


def loaded_tiles(code: str, folder: str, tile: int) -> Callable[[], np.ndarray]:
    """The windows as they are resized before training and inference: uint8 (N, tile, tile, 3), training tiles first."""
    _script(code, folder, "swin-cropping.py")
    from PIL import Image

    resize = import_module("dataset").get_data_transforms(tile, tile)[0].transforms[0]
    category = Path("processed") / CATEGORY
    files = [*sorted((category / "train" / "good").glob("*.png")), *sorted((category / SPLIT).glob("*.png"))]
    return lambda: np.stack([np.asarray(resize(Image.open(file).convert("RGB"))) for file in files])


def train(
    code: str, folder: str, tile: int, epochs: int, batch_size: int, start: str = ""
) -> Callable[[], dict[str, list[float]]]:
    """Training to a saved model, without the evaluation that follows it.

    Args:
        code: the checkout.
        folder: what it works in.
        tile: side of a tile in pixels.
        epochs, batch_size: of the training.
        start: a file of start weights, with which tiles are not augmented; empty: random ones, and augmentation.

    Returns:
        What is timed; it gives the losses of all steps, when they ended in seconds and CPU seconds of this process, and
        the learning rates of 1000 steps.
    """
    script, arguments = _inp_former(code, folder, tile, phase="train", epochs=epochs, batch_size=batch_size)
    losses: list[float] = []

    def mean_loss(of_epoch: list[float]) -> float:
        losses.extend(of_epoch)
        return float(np.mean(of_epoch))

    # All that it takes NumPy for.
    script.np = SimpleNamespace(mean=mean_loss)
    script.evaluation_batch = lambda *_, **__: [0.0] * 7
    if start:
        _start_from(script, Path(start))
    ends = _ends_of_steps(script)

    def run() -> dict[str, list[float]]:
        shutil.rmtree(arguments.save_dir, ignore_errors=True)
        script.main(arguments)
        return {"losses": losses, **ends, "rates": _learning_rates(script)}

    return run


def infer(code: str, folder: str, tile: int, batch_size: int) -> Callable[[], np.ndarray]:
    """Windows to files of tile maps from 0 to 255; gives the raw maps, float32 (N, 256, 256)."""
    script, arguments = _inp_former(code, folder, tile, phase="test", epochs=1, batch_size=batch_size)
    utils: Any = import_module("utils")
    torch = script.torch
    raw: list[Any] = []
    smooth = utils.get_gaussian_kernel

    def recorded(*args: Any, **kwargs: Any) -> Any:
        kernel = smooth(*args, **kwargs)
        kernel.register_forward_hook(lambda _module, _inputs, maps: raw.append(maps))
        return kernel

    utils.get_gaussian_kernel = recorded

    def run() -> np.ndarray:
        script.main(arguments)
        maps: np.ndarray = torch.cat(raw)[:, 0].numpy()
        return maps

    return run


def merge(code: str, folder: str, height: int, width: int) -> Callable[[], None]:
    """Files of tile maps to maps of images of a height and width; the files are copied first, as they are deleted."""
    script = _script(code, folder, "merging.py")
    script.resolution_dict[CATEGORY] = (width, height)
    maps = Path("published_maps")
    shutil.rmtree(maps, ignore_errors=True)
    for name in CATEGORIES:
        (maps / name).mkdir(parents=True)
    shutil.copytree("tile_maps", maps / CATEGORY / SPLIT)
    return lambda: script.merge(crop_path=str(maps), window_size=MAP_SIDE, desired_overlap=OVERLAP)


def binarize(code: str, folder: str) -> Callable[[], None]:
    """Anomaly maps to coarse masks."""
    script = _script(code, folder, "binarization.py")
    script.mvtec_class_names = [CATEGORY]
    maps, masks = Path("amap/anomaly_images") / CATEGORY, Path("bin")
    shutil.rmtree("amap", ignore_errors=True)
    maps.mkdir(parents=True)
    (maps / SPLIT).symlink_to(Path("maps").resolve())
    return lambda: script.mvtec_bin(Namespace(amap_savedir="amap", bin_savedir=str(masks)), test_type=SPLIT)


def refine(code: str, folder: str) -> Callable[[], None]:
    """Coarse masks to final masks by SAM vit_b, whose weights lie in the folder; masks are replaced."""
    script = _script(code, folder, "SAM-Finer.py")
    script._CLASS_NAMES_ = [CATEGORY]
    shutil.rmtree("sam", ignore_errors=True)
    shutil.copytree("masks", f"sam/anomaly_images_thresholded/{CATEGORY}/{SAM_SPLIT}")
    return lambda: script.samfiner(Namespace(data_path="sam_data", bin_savedir="sam"), test_type=SAM_SPLIT)


def _script(code: str, folder: str, name: str) -> Any:
    """A script of the checkout as a module, made to run here."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.path.insert(0, code)
    os.chdir(folder)
    for module, attribute in UNUSED.items():
        sys.modules.setdefault(module, ModuleType(module))
        setattr(sys.modules[module], attribute, None)
    if not hasattr(tifffile, "imsave"):
        tifffile.imsave = tifffile.imwrite  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location(Path(name).stem.replace("-", "_"), Path(code) / name)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def _without_gpu() -> None:
    """Let torch have a name that newer ones lack, and load to the CPU what is asked for on "cuda:0"."""
    import torch

    if not hasattr(torch.nn.utils, "clip_grad_norm"):
        torch.nn.utils.clip_grad_norm = torch.nn.utils.clip_grad_norm_
    load = torch.load
    torch.load = lambda file, *args, **kwargs: load(file, *args, **kwargs | {"map_location": "cpu"})


def _inp_former(
    code: str, folder: str, tile: int, *, phase: str, epochs: int, batch_size: int
) -> tuple[Any, Namespace]:
    """The script of training and inference, and its arguments."""
    _without_gpu()
    script = _script(code, folder, "INP_Former_Single_Class.py")
    script.device, script.print_fn = "cpu", lambda *_: None
    arguments = Namespace(
        dataset="MVTec-AD-2",
        data_path="processed",
        item=CATEGORY,
        test_type=SPLIT,
        save_dir="trained" if phase == "train" else "checkpoint",
        save_name="model",
        amap_savedir="amaps",
        encoder=ENCODER,
        input_size=tile,
        crop_size=tile,
        INP_num=6,
        total_epochs=epochs,
        batch_size=batch_size,
        phase=phase,
    )
    return script, arguments


def _start_from(script: Any, file: Path) -> None:
    """Let training begin with the weights of a file, and with tiles as they are."""
    former, scheduler, transforms = script.INP_Former, script.WarmCosineScheduler, script.get_data_transforms
    models: list[Any] = []

    def remembered(*args: Any, **kwargs: Any) -> Any:
        models.append(former(*args, **kwargs))
        return models[-1]

    def after_initialization(*args: Any, **kwargs: Any) -> Any:
        models[-1].load_state_dict(script.torch.load(file), strict=True)
        return scheduler(*args, **kwargs)

    script.INP_Former, script.WarmCosineScheduler = remembered, after_initialization
    script.get_data_transforms = lambda size, crop, **_: transforms(size, crop)


def _ends_of_steps(script: Any) -> dict[str, list[float]]:
    """Where the time at the end of each step will stand: its last act is to set the next learning rate."""
    ends: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
    make = script.WarmCosineScheduler

    def timed(*args: Any, **kwargs: Any) -> Any:
        scheduler = make(*args, **kwargs)
        step = scheduler.step

        def step_and_note() -> None:
            step()
            ends["seconds"].append(time.perf_counter())
            ends["cpu_seconds"].append(time.process_time())

        scheduler.step = step_and_note
        return scheduler

    script.WarmCosineScheduler = timed
    return ends


def _learning_rates(script: Any, steps: int = 1000) -> list[float]:
    """The learning rates of a training of so many steps, 100 of them of the warm-up."""
    optimizer = script.StableAdamW([script.nn.Parameter(script.torch.zeros(1))], lr=1e-3)
    utils = import_module("utils")
    scheduler = utils.WarmCosineScheduler(optimizer, 1e-3, 1e-4, total_iters=steps, warmup_iters=100)
    return [float(rate) for rate in scheduler.schedule]
