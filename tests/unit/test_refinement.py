from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage
from segment_anything import SamPredictor
from segment_anything.build_sam import _build_sam
from skimage import measure

from robis.arrays.morphology import fill_holes, largest_components
from robis.errors import ConfigError, DataError, WeightsError
from robis.io.images import read_mask
from robis.io.maps import write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.io.threads import threaded
from robis.refinement import sam as sam_module
from robis.refinement.grabcut import GrabCutRefiner
from robis.refinement.methods import METHODS, Refining
from robis.refinement.sam import SamRefiner, load_sam
from robis.refinement.stage import refine_split


def blobs(seed: int, shape: tuple[int, int] = (60, 80), sigma: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, sigma) > 0.12 / sigma


def texture(seed: int, shape: tuple[int, int]) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def read_image_file(path: Path) -> np.ndarray:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


# Boxes and holes


def test_boxes_of_a_hand_worked_mask() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[1:3, 2:5] = True  # 6 pixels, box 2, 1 to 5, 3
    mask[3, 5] = True  # touches the corner: the same component, box 2, 1 to 6, 4
    mask[7:10, 0:3] = True  # 9 pixels, box 0, 7 to 3, 10
    mask[0, 11] = True  # 1 pixel
    mask[6, 8:10] = True  # 2 pixels
    boxes, ranks = largest_components(mask, 3)
    assert boxes.tolist() == [[0, 7, 3, 10], [2, 1, 6, 4], [8, 6, 10, 7]]
    assert (ranks[7:10, 0:3] == 1).all() and ranks[3, 5] == 2 and ranks[6, 8] == 3
    assert ranks[0, 11] == 0
    assert np.bincount(ranks.ravel()).tolist() == [120 - 9 - 7 - 2, 9, 7, 2]


def test_equal_areas_are_ordered_from_the_top_then_the_left() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[6, 1] = mask[2, 6] = mask[2, 3] = True
    boxes, _ = largest_components(mask, 2)
    assert boxes.tolist() == [[3, 2, 4, 3], [6, 2, 7, 3]]
    mask = np.zeros((4, 10), dtype=bool)
    mask[0:2, 2:8] = True  # 12 pixels, met first from the top left
    mask[0:3, 9] = mask[3, 0:9] = True  # 12 pixels as well, and reaches further left
    assert largest_components(mask, 2)[0].tolist() == [[0, 0, 10, 4], [2, 0, 8, 2]]


def test_an_empty_mask_has_no_boxes() -> None:
    boxes, ranks = largest_components(np.zeros((4, 5), dtype=bool), 3)
    assert boxes.shape == (0, 4)
    assert ranks.shape == (4, 5) and not ranks.any()


@pytest.mark.parametrize("seed", range(5))
def test_boxes_agree_with_regionprops(seed: int) -> None:
    mask = blobs(seed)
    regions = measure.regionprops(measure.label(mask, connectivity=2))
    assert len(regions) > 3
    regions.sort(key=lambda region: (-region.area, region.bbox[0], region.bbox[1]))
    expected = [[left, top, right, bottom] for top, left, bottom, right in (r.bbox for r in regions[:3])]
    assert largest_components(mask, 3)[0].tolist() == expected


def test_holes_are_background_that_no_4_connected_path_leads_out_of() -> None:
    diamond = np.array(
        [
            [0, 0, 1, 0, 0, 1],
            [0, 1, 0, 1, 0, 1],
            [0, 0, 1, 0, 0, 1],
            [1, 0, 0, 0, 0, 0],
        ],
        dtype=bool,
    )
    expected = diamond.copy()
    expected[1, 2] = True
    assert np.array_equal(fill_holes(diamond), expected)


@pytest.mark.parametrize("seed", range(5))
def test_filled_holes_agree_with_scipy(seed: int) -> None:
    mask = ~blobs(seed)
    filled = ndimage.binary_fill_holes(mask)
    assert (filled != mask).any()
    assert np.array_equal(fill_holes(mask), filled)


# SAM


def build_tiny() -> torch.nn.Module:
    return _build_sam(16, 2, 2, [])


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM that segment-anything itself builds, random weights, saved as the published ones are."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("sam") / "tiny.pth"
    torch.save(build_tiny().state_dict(), path)
    return path


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sam_module.SAM_BUILDERS, "tiny", build_tiny)
    return "tiny"


def calls_of(module: torch.nn.Module) -> list[int]:
    counted: list[int] = []
    module.register_forward_hook(lambda *_: counted.append(1))
    return counted


# Random weights give logits of a few hundredths: thresholds of that size make masks that tell boxes apart.
@pytest.mark.parametrize(("multimask", "threshold"), [(False, 0.03), (True, 0.12)])
def test_sam_equals_the_predictor_box_by_box(
    tiny_checkpoint: Path, tiny_model: str, multimask: bool, threshold: float
) -> None:
    image = texture(0, (90, 120))
    coarse = np.zeros((90, 120), dtype=bool)
    coarse[10:30, 5:40] = coarse[50:80, 70:100] = coarse[8:14, 90:110] = coarse[70, 10] = True
    sam = load_sam(tiny_model, tiny_checkpoint, device="cpu")
    reference = build_tiny()
    reference.load_state_dict(torch.load(tiny_checkpoint, weights_only=True))
    sam.mask_threshold = reference.mask_threshold = threshold
    predictor = SamPredictor(reference)

    def box_by_box(pixels: np.ndarray) -> np.ndarray:
        predictor.set_image(pixels, image_format="RGB")
        boxes = np.array([[70, 50, 100, 80], [5, 10, 40, 30], [90, 8, 110, 14]])
        masks = [predictor.predict(box=box, multimask_output=multimask)[0] for box in boxes]
        assert {len(mask) for mask in masks} == {3 if multimask else 1}
        return ndimage.binary_fill_holes(np.concatenate(masks).any(axis=0))

    fine = SamRefiner(sam, 3, multimask)(image, coarse)
    assert fine.dtype == bool and fine.shape == coarse.shape
    assert 0.05 < fine.mean() < 0.95
    # Batched boxes may round differently, so a few pixels at the threshold are free; other colors are not.
    assert (fine != box_by_box(image)).mean() < 0.001
    assert (fine != box_by_box(np.ascontiguousarray(image[..., ::-1]))).mean() > 0.02


def test_sam_embeds_an_image_once_and_decodes_all_boxes_in_one_call(tiny_checkpoint: Path, tiny_model: str) -> None:
    sam = load_sam(tiny_model, tiny_checkpoint, device="cpu")
    embeddings, decodings = calls_of(sam.image_encoder), calls_of(sam.mask_decoder)
    coarse = np.zeros((40, 50), dtype=bool)
    coarse[5:10, 5:10] = coarse[20:30, 20:30] = True
    SamRefiner(sam, 3, multimask=False)(texture(1, (40, 50)), coarse)
    assert (len(embeddings), len(decodings)) == (1, 1)


def test_sam_is_not_asked_about_an_empty_mask(tiny_checkpoint: Path, tiny_model: str) -> None:
    sam = load_sam(tiny_model, tiny_checkpoint, device="cpu")
    embeddings = calls_of(sam.image_encoder)
    fine = SamRefiner(sam, 3, multimask=False)(texture(1, (40, 50)), np.zeros((40, 50), dtype=bool))
    assert not fine.any() and fine.shape == (40, 50)
    assert embeddings == []
    with pytest.raises(DataError, match=r"image: found shape \(40, 50, 3\); expected \(40, 51, 3\)"):
        SamRefiner(sam, 3, multimask=False)(texture(1, (40, 50)), np.ones((40, 51), dtype=bool))


def test_sam_loads_in_float32_for_inference_also_from_half_precision(
    tiny_checkpoint: Path, tiny_model: str, tmp_path: Path
) -> None:
    state = torch.load(tiny_checkpoint, weights_only=True)
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "half.pth")
    sam = load_sam(tiny_model, tmp_path / "half.pth", device="cpu")
    assert {p.dtype for p in sam.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in sam.parameters()) and not sam.training
    key = "mask_decoder.iou_token.weight"
    assert torch.equal(sam.state_dict()[key], state[key].half().float())


def test_on_the_cpu_precision_changes_nothing(tiny_checkpoint: Path, tiny_model: str) -> None:
    sam = load_sam(tiny_model, tiny_checkpoint, device="cpu")
    coarse = np.zeros((40, 50), dtype=bool)
    coarse[5:20, 5:20] = True
    image = texture(1, (40, 50))
    exact, mixed = (SamRefiner(sam, 3, False, precision)(image, coarse) for precision in ("float32", "bf16"))
    assert np.array_equal(exact, mixed)


@pytest.mark.parametrize(("model", "name"), sam_module.CHECKPOINTS.items())
def test_a_missing_checkpoint_says_which_where_from_and_where_to(
    model: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError) as error:
        load_sam(model, device="cpu")
    for part in (
        f"weights/{name}: does not exist",
        f"Download {name} from",
        "facebookresearch/segment-anything",
        "refine.checkpoint",
    ):
        assert part in str(error.value)


def test_another_digest_is_refused_and_the_right_one_is_taken(tiny_checkpoint: Path, tiny_model: str) -> None:
    right = hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()
    load_sam(tiny_model, tiny_checkpoint, sha256=right, device="cpu")
    with pytest.raises(WeightsError) as error:
        load_sam(tiny_model, tiny_checkpoint, sha256="0" * 64, device="cpu")
    assert right in str(error.value) and "0" * 64 in str(error.value)
    assert "refine.sha256" in str(error.value) and "tiny.pth" in str(error.value)


def test_a_checkpoint_of_another_shape_names_the_first_key_and_both_shapes(tiny_checkpoint: Path) -> None:
    with pytest.raises(WeightsError) as error:
        load_sam("vit_b", tiny_checkpoint, device="cpu")
    assert "'image_encoder.pos_embed' is (1, 64, 64, 16); expected (1, 64, 64, 768)" in str(error.value)
    assert "Expected sam_vit_b_01ec64.pth" in str(error.value)


def test_a_checkpoint_of_another_model_is_recognized(tmp_path: Path) -> None:
    state = {
        "image_encoder.pos_embed": torch.zeros(1).expand(1, 64, 64, 768),
        "image_encoder.patch_embed.proj.weight": torch.zeros(1).expand(768, 3, 16, 16),
    }
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(WeightsError) as error:
        load_sam("vit_l", tmp_path / "sam.pth", device="cpu")
    assert "'image_encoder.pos_embed' is (1, 64, 64, 768); expected (1, 64, 64, 1024)" in str(error.value)
    assert "set refine.model to vit_b" in str(error.value)


def test_absent_and_extra_keys_are_refused(tiny_checkpoint: Path, tiny_model: str, tmp_path: Path) -> None:
    state = torch.load(tiny_checkpoint, weights_only=True)
    torch.save(state | {"head.weight": torch.zeros(2, 3)}, tmp_path / "extra.pth")
    with pytest.raises(WeightsError, match=r"has 'head\.weight', \(2, 3\), which SAM tiny does not"):
        load_sam(tiny_model, tmp_path / "extra.pth", device="cpu")
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match=r"no 'mask_decoder\.iou_token\.weight'"):
        load_sam(tiny_model, tmp_path / "absent.pth", device="cpu")


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def test_files_that_are_no_plain_weights_are_refused_and_not_run(tmp_path: Path) -> None:
    path, trapped = tmp_path / "sam.pth", tmp_path / "trapped"
    torch.save({"weight": Trap(trapped)}, path)
    expected = r"refine\.checkpoint: .*sam\.pth is not a readable weights file: it is .* Expected sam_vit_b_01ec64\.pth"
    with pytest.raises(WeightsError, match=expected):
        load_sam("vit_b", path, device="cpu")
    path.write_bytes(pickle.dumps(Trap(trapped), protocol=2))
    with pytest.raises(WeightsError, match=expected):
        load_sam("vit_b", path, device="cpu")
    assert not trapped.exists()
    for damaged in (b"", b"no weights at all", b"version https://git-lfs.github.com/spec/v1"):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=expected):
            load_sam("vit_b", path, device="cpu")
    for content, kind in (([1, 2], "an object of type list"), ({"model": {}}, "an empty state dict")):
        torch.save(content, path)
        with pytest.raises(WeightsError, match=rf"holds {kind}.* Expected sam_vit_b_01ec64\.pth"):
            load_sam("vit_b", path, device="cpu")


def test_weights_that_float32_cannot_hold_are_refused(tiny_checkpoint: Path, tiny_model: str, tmp_path: Path) -> None:
    key = "mask_decoder.iou_token.weight"
    state = torch.load(tiny_checkpoint, weights_only=True)
    torch.save(state | {key: torch.full((1, 256), 0.1, dtype=torch.float64)}, tmp_path / "double.pth")
    with pytest.raises(WeightsError, match=rf"'{key}' is float64; SAM tiny needs float32"):
        load_sam(tiny_model, tmp_path / "double.pth", device="cpu")


def test_unknown_models_precisions_and_devices_list_what_is_valid(tiny_checkpoint: Path, tiny_model: str) -> None:
    with pytest.raises(ConfigError, match=r"refine\.model: 'vit_x'.*vit_b, vit_l, vit_h"):
        load_sam("vit_x")
    with pytest.raises(ConfigError, match="device: 'gpu'"):
        load_sam(tiny_model, tiny_checkpoint, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device: 'cuda' is not on this machine"):
            load_sam(tiny_model, tiny_checkpoint, device="cuda")
    with pytest.raises(ConfigError, match=r"refine\.precision: 'half'.*float32, bf16, fp16"):
        SamRefiner(load_sam(tiny_model, tiny_checkpoint, device="cpu"), 3, False, "half")


# GrabCut


def disk_scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A bright disk of radius 20 on a darker ground, both noisy, and the disk's mask."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:100, :140]
    disk = (down - 50) ** 2 + (across - 60) ** 2 <= 400
    image = np.where(disk[..., None], (200, 180, 90), (60, 80, 70)) + rng.normal(0, 8, (100, 140, 3))
    return np.clip(image, 0, 255).astype(np.uint8), disk


def test_grabcut_completes_a_disk_that_is_half_covered() -> None:
    image, disk = disk_scene()
    down, across = np.mgrid[:100, :140]
    coarse = disk & (np.abs((down - 50) - (across - 60)) <= 11)
    coarse |= disk & (np.abs((down - 50) + (across - 60)) <= 3)
    coarse[50, 40:81] = coarse[30:71, 60] = True  # the box is the disk's
    assert 0.4 < iou(coarse, disk) < 0.65
    assert iou(GrabCutRefiner(3)(image, coarse), disk) > 0.97


def test_grabcut_trims_a_blob_that_overshoots() -> None:
    image, disk = disk_scene()
    coarse = ndimage.binary_dilation(disk, iterations=8)
    assert iou(coarse, disk) < 0.6
    assert iou(GrabCutRefiner(3)(image, coarse), disk) > 0.97


def test_grabcut_refines_each_of_the_largest_components_within_its_box() -> None:
    image, disk = disk_scene()
    image = np.concatenate([image, image, image], axis=1)
    disks = np.concatenate([disk, disk, disk], axis=1)
    coarse = np.zeros_like(disks)
    coarse[32:69, 42:79] = True  # 37 x 37: smaller than the first disk's box, 41 x 41
    coarse[25:75, 175:225] = True  # around the second
    coarse[49:51, 339:341] = True  # a speck in the third, left out of two boxes
    fine = GrabCutRefiner(2)(image, coarse)
    assert not fine[~ndimage.binary_dilation(coarse)].any()
    assert not fine[:, 280:].any()
    assert np.array_equal(fine[32:69, 42:79], disks[32:69, 42:79])
    assert iou(fine[:, 140:280], disk) > 0.97


def test_grabcut_learns_the_colors_of_a_components_rim_too() -> None:
    image, disk = disk_scene()
    rim = disk & ~ndimage.binary_erosion(disk, iterations=6)
    image[rim] = image[rim][:, [2, 0, 1]]
    coarse = ndimage.binary_dilation(disk, iterations=2)
    assert iou(GrabCutRefiner(3)(image, coarse), disk) > 0.97


def test_grabcut_fills_holes() -> None:
    image, disk = disk_scene()
    image[46:54, 56:64] = (60, 80, 70)
    coarse = ndimage.binary_dilation(disk, iterations=3)
    coarse[46:54, 56:64] = False
    assert iou(GrabCutRefiner(3)(image, coarse), disk) > 0.97


def test_grabcut_drops_what_the_component_does_not_touch() -> None:
    image, disk = disk_scene()
    coarse = np.zeros_like(disk)
    coarse[80:84, 30:110] = coarse[25:84, 30:34] = True  # an L whose box holds the disk
    image[coarse] = image[disk][: coarse.sum()]
    fine = GrabCutRefiner(3)(image, coarse)
    assert not fine[disk].any()
    assert iou(fine, coarse) > 0.9


def test_grabcut_stays_within_the_box_where_a_neighbor_goes_on() -> None:
    image, disk = disk_scene()
    bright = np.zeros_like(disk)
    bright[20:41, 20:61] = True
    image[disk] = image[0, 0]
    image[bright] = (200, 180, 90)
    coarse = np.zeros_like(disk)
    coarse[20:41, 20:25] = coarse[36:41, 20:41] = True  # its box ends at column 41
    coarse[20:30, 41:51] = True  # another, smaller component begins there
    fine = GrabCutRefiner(1)(image, coarse)
    assert fine[20:41, 20:41].all()
    assert not fine[:, 41:].any()


def test_grabcut_gives_the_same_mask_whatever_ran_before_and_on_every_thread() -> None:
    image = texture(3, (120, 160))
    coarse = blobs(1, (120, 160), sigma=6.0)
    refine = GrabCutRefiner(3)
    first = refine(image, coarse)
    assert first.any()
    cv2.setRNGSeed(99)
    again = [refine(image, coarse), *threaded(lambda _: refine(image, coarse), range(8), 3)]
    assert all(np.array_equal(first, mask) for mask in again)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("corner", [(0, 0), (30, 40), (-1, -1)])
@pytest.mark.parametrize("flat", [False, True])
def test_grabcut_keeps_tiny_components(size: int, corner: tuple[int, int], flat: bool) -> None:
    image = np.full((60, 80, 3), 90, dtype=np.uint8) if flat else texture(2, (60, 80))
    coarse = np.zeros((60, 80), dtype=bool)
    top, left = (c if c >= 0 else length - size for c, length in zip(corner, coarse.shape, strict=True))
    coarse[top : top + size, left : left + size] = True
    fine = GrabCutRefiner(3)(image, coarse)
    assert (fine & coarse).any()
    assert not fine[~coarse].any()


def test_grabcut_without_background_or_contrast_keeps_the_coarse_mask() -> None:
    refine = GrabCutRefiner(3)
    everything = np.ones((40, 50), dtype=bool)
    assert refine(texture(4, (40, 50)), everything).all()
    nothing = np.zeros((40, 50), dtype=bool)
    assert not refine(texture(4, (40, 50)), nothing).any()
    one_pixel = np.ones((1, 1), dtype=bool)
    assert refine(np.zeros((1, 1, 3), dtype=np.uint8), one_pixel).all()
    half = nothing.copy()
    half[10:30, 10:40] = True
    flat = refine(np.full((40, 50, 3), 128, dtype=np.uint8), half)
    assert (flat & half).any() and not flat[~half].any()


def test_grabcut_keeps_the_component_when_opencv_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: object) -> None:
        raise cv2.error("singular covariance")

    monkeypatch.setattr(cv2, "grabCut", gives_up)
    image, disk = disk_scene()
    assert np.array_equal(GrabCutRefiner(3)(image, disk), disk)


# The stage


SIZES = {"good/000": (80, 100), "bad/001_regular": (80, 100), "bad/002_regular": (120, 60)}


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Three samples of two sizes, masks at half the image's; the good one's image does not exist."""
    rows = []
    for number, (sample_id, (height, width)) in enumerate(SIZES.items()):
        coarse = np.zeros((height // 2, width // 2), dtype=bool)
        if not sample_id.startswith("good"):
            coarse[8:28, 6:24] = True
            image = np.random.default_rng(number).normal(70, 6, (height, width, 3))
            image[22:48, 16:40] += (120, 80, 20)
            path = tmp_path / "root" / f"{sample_id}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8)[..., ::-1])
        write_mask(tmp_path / "coarse" / f"{sample_id}.png", coarse)
        rows.append(IndexedSample(sample_id, "test", f"{sample_id}.png", None, None, None, height, width))
    write_samples(tmp_path / "samples.parquet", rows)
    return tmp_path


def run(split: Path, method: str, name: str = "masks", **options: object) -> Path:
    masks = split / "out" / name
    paths = (split / "samples.parquet", split / "root", split / "coarse", masks)
    threads = options.pop("threads", 1)
    refine_split(*paths, Refining(method, **options), threads=threads)  # type: ignore[arg-type]
    return masks


def read_all(masks: Path) -> dict[str, np.ndarray]:
    found = {p.relative_to(masks).with_suffix("").as_posix() for p in masks.rglob("*") if p.is_file()}
    assert found == set(SIZES)
    read = {sample_id: read_image_file(masks / f"{sample_id}.png") for sample_id in SIZES}
    for sample_id, mask in read.items():
        assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
        assert mask.shape == tuple(side // 2 for side in SIZES[sample_id])
    return read


def test_stage_grabcut_refines_images_of_two_sizes(split: Path) -> None:
    masks = read_all(run(split, "grabcut"))
    assert not masks["good/000"].any()
    for sample_id in ("bad/001_regular", "bad/002_regular"):
        truth = np.zeros_like(masks[sample_id])
        truth[11:24, 8:20] = 255
        assert iou(masks[sample_id] > 0, truth > 0) > 0.95


def test_stage_writes_the_same_bytes_with_any_number_of_threads(split: Path) -> None:
    one, four = run(split, "grabcut", "one"), run(split, "grabcut", "four", threads=4)
    for sample_id in SIZES:
        assert (one / f"{sample_id}.png").read_bytes() == (four / f"{sample_id}.png").read_bytes()


def test_stage_none_takes_the_coarse_masks_and_reads_no_image(split: Path) -> None:
    for image in (split / "root").rglob("*.png"):
        image.unlink()
    masks = read_all(run(split, "none"))
    for sample_id, mask in masks.items():
        assert np.array_equal(mask > 0, read_mask(split / "coarse" / f"{sample_id}.png"))


def test_stage_sam_equals_the_predictor_on_the_resized_rgb_image(
    split: Path, tiny_checkpoint: Path, tiny_model: str
) -> None:
    masks = read_all(run(split, "sam", model=tiny_model, checkpoint=str(tiny_checkpoint), device="cpu"))
    assert not masks["good/000"].any()
    reference = build_tiny()
    reference.load_state_dict(torch.load(tiny_checkpoint, weights_only=True))
    predictor = SamPredictor(reference)
    for sample_id in ("bad/001_regular", "bad/002_regular"):
        bgr = read_image_file(split / "root" / f"{sample_id}.png")
        height, width = masks[sample_id].shape
        predictor.set_image(cv2.resize(bgr, (width, height)), image_format="BGR")
        expected, _, _ = predictor.predict(box=np.array([6, 8, 24, 28]), multimask_output=False)
        filled = ndimage.binary_fill_holes(expected[0])
        assert 0.02 < filled.mean() < 0.98
        assert ((masks[sample_id] > 0) != filled).mean() < 0.005


def test_stage_hands_its_options_to_sam(
    split: Path, tiny_checkpoint: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[object, ...]] = []

    class Recorded(SamRefiner):
        def __init__(self, sam: torch.nn.Module, *options: object) -> None:
            made.append((sam.device.type, *options))
            super().__init__(sam, *options)  # type: ignore[arg-type]

    monkeypatch.setattr(sam_module, "SamRefiner", Recorded)
    digest = hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()
    sam = {"model": tiny_model, "checkpoint": str(tiny_checkpoint), "device": "cpu"}
    run(split, "sam", **sam, sha256=digest, max_boxes=1, multimask=True, precision="bf16")
    assert made == [("cpu", 1, True, "bf16")]
    with pytest.raises(WeightsError, match="sha256"):
        run(split, "sam", **sam, sha256="f" * 64)


def test_stage_lists_every_missing_coarse_mask_and_writes_nothing(split: Path) -> None:
    (split / "coarse/good/000.png").unlink()
    (split / "coarse/bad/002_regular.png").unlink()
    with pytest.raises(DataError) as error:
        run(split, "grabcut")
    assert "no coarse mask for 2 of 3 samples" in str(error.value)
    assert "good/000.png" in str(error.value) and "bad/002_regular.png" in str(error.value)
    assert not (split / "out").exists()


def test_stage_leaves_nothing_behind_when_an_image_cannot_be_read(split: Path) -> None:
    (split / "root/bad/002_regular.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"002_regular\.png: not a readable image"):
        run(split, "grabcut")
    assert list((split / "out").iterdir()) == []


def test_stage_names_the_methods_when_one_is_unknown(split: Path) -> None:
    with pytest.raises(ConfigError, match=r"refine\.method: 'grabcat'.*sam, grabcut, none.*'grabcut'"):
        run(split, "grabcat")
    assert list(METHODS) == ["sam", "grabcut", "none"]


def test_without_sam_torch_is_not_imported() -> None:
    code = (
        "import sys, robis.refinement.stage, robis.refinement.grabcut; "
        "sys.exit('torch' in sys.modules or 'segment_anything' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
