"""What settings mean in image pixels, and which do not fit: values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robis.cli import main
from robis.config.settings import SharedSettings
from robis.datasets.defects import defect_widths
from robis.detectors.settings import parse
from robis.encoders.build import build_encoder
from robis.encoders.steps import CNN_STEP, tokens_per_side
from robis.errors import DataError
from robis.workflow.advice import RULES, Rule, advice, advice_texts, method_rows
from robis.workflow.checks import plan_warnings
from robis.workflow.data_check import check_for_config
from robis.workflow.project import Project
from robis.workflow.scales import middle_size, scales_of
from tests.unit.trees import write_image


def squares(*sides: int, size: tuple[int, int] = (60, 80)) -> np.ndarray:
    """A mask with squares of these sides side by side."""
    mask = np.zeros(size, bool)
    left = 1
    for side in sides:
        mask[2 : 2 + side, left : left + side] = True
        left += side + 2
    return mask


def test_the_width_of_a_defect_is_the_side_of_the_largest_square_in_it() -> None:
    assert defect_widths(squares(1, 2, 3, 4, 5, 8)) == [1, 2, 3, 4, 5, 8]
    assert defect_widths(np.zeros((5, 5), bool)) == []
    assert defect_widths(np.ones((7, 5), bool)) == [5], "a defect at the border"
    scratch = np.zeros((40, 40), bool)
    scratch[20, 3:38] = True
    scratch[20:22, 10:12] = True
    assert defect_widths(scratch) == [2]
    diagonal = np.eye(9, dtype=bool)
    assert defect_widths(diagonal) == [1], "one region by its corners"
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    assert defect_widths(ring) == [3]


def test_an_erosion_erases_what_is_narrower_and_nothing_else() -> None:
    """Against OpenCV's erosion, on random regions."""
    import cv2

    rng = np.random.default_rng(0)
    mask = cv2.GaussianBlur(rng.random((90, 120)).astype(np.float32), (0, 0), 3) > 0.5
    _, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    widths = defect_widths(mask)
    assert len(widths) == regions.max() > 5
    for block in range(1, max(widths) + 2):
        eroded = cv2.erode(mask.astype(np.uint8), np.ones((block, block), np.uint8), borderValue=0)
        left = set(np.unique(regions[eroded > 0]))
        assert len(left) == sum(width >= block for width in widths), block


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [
        ("efficientnet_lite0", 256, None),
        ("efficientnet_lite0", 200, [3, 4]),
        ("resnet18", 96, None),
        ("resnet18", 64, [1, 2]),
        ("vit_tiny_patch16_224", 64, [2]),
    ],
)
def test_the_number_of_tokens_is_that_of_the_built_encoder(name: str, size: int, blocks: list[int] | None) -> None:
    built = build_encoder(name, weights="random", input_size=size, blocks=blocks)
    assert tokens_per_side(name, size, blocks) == built.grid


def test_the_number_of_tokens_of_short_names() -> None:
    assert CNN_STEP == 8
    assert tokens_per_side("dinov2_reg_vitb14", 518) == 37
    assert tokens_per_side("dinov3_vithplus16", 640) == 40
    assert tokens_per_side("clip_vitl14_336", 518) == 37


def config(**sections: dict) -> SharedSettings:
    base = {
        "encoder": {"name": "efficientnet_lite0"},
        "binarize": {"erosion_size": 6},
        "merge": {"scale": 0.25},
        "tiling": {"window": 1024, "edge": "pad"},
        "detectors": ["superadd"],
    }
    changed = {name: base.get(name, {}) | values for name, values in sections.items()}
    return parse(base | changed)


def test_units_in_image_pixels() -> None:
    """The walk of a new user: photos of 400 x 300 pixels in windows of 1,024."""
    units = scales_of(config(), [(300, 400)])
    assert units.image == (300, 400)
    assert units.token == 1024 / 32
    assert units.erosion == 6 / 0.25
    assert units.mask_pixel == 4
    assert units.padding == pytest.approx(1 - 300 * 400 / 1024**2)
    smaller = scales_of(config(tiling={"window": 128}, merge={"scale": 1.0}), [(300, 400)])
    assert (smaller.token, smaller.erosion, smaller.mask_pixel) == (4, 6, 1)
    joined = scales_of(config(tiling={"window": "joined", "image_scale": 0.625}), [(300, 400)])
    assert (joined.tile, joined.token, joined.padding) == (410, 410 / 32, 0)


def test_padding_is_a_share_of_all_tiles() -> None:
    """Windows of 100 at 0, 90, 180 along 250 pixels: 100 + 100 + 70 of 300; along 100: one, whole."""
    padded = config(tiling={"window": 100, "overlap": 0.1})
    assert scales_of(padded, [(100, 250)]).padding == pytest.approx(1 - 270 / 300)
    assert scales_of(padded, [(100, 250), (50, 100)]).padding == pytest.approx(1 - (27000 + 5000) / (3e4 + 1e4))
    shifted = config(tiling={"window": 100, "overlap": 0.1, "edge": "shift"})
    assert scales_of(shifted, [(100, 250)]).padding == 0
    assert scales_of(config(tiling={"window": "image"}), [(100, 250)]).padding == 0


def test_whole_images_and_masks_without_erosion() -> None:
    whole = scales_of(config(tiling={"window": "image"}, binarize={"method": "percentile"}), [(300, 400)])
    assert (whole.token, whole.erosion) == (400 / 32, None)
    assert scales_of(config(binarize={"erosion_size": 1}), [(300, 400)]).erosion is None
    assert middle_size([(10, 10), (30, 40), (20, 20)]) == (20, 20)


def write_mask_of(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty training images and ten defects of 3 to 12 pixels, in images of 80 x 60."""
    root = tmp_path / "data"
    for n in range(20):
        write_image(root / "nut" / "train" / f"{n:02}.png", 60, 80)
    for n, side in enumerate(range(3, 13)):
        write_image(root / "nut" / "test" / "dent" / f"{n}.png", 60, 80)
        write_mask_of(root / "nut" / "masks" / "dent" / f"{n}.png", squares(side))
    write_image(root / "nut" / "test" / "good" / "a.png", 60, 80)
    return root


def project(root: Path, **sections: dict) -> Project:
    dataset = {"root": str(root), "layout": "folder", "splits": ["test"]}
    settings = config(dataset=dataset, refine={"method": "none"}, **sections)
    return Project(settings, root.parent / "results")


def texts(planned: Project) -> dict[str, str]:
    return {problem.kind.singular: problem.text for problem in advice(planned)}


def test_each_misfit_names_a_key_and_a_value(root: Path) -> None:
    found = texts(project(root))
    assert found == {
        "category has tiles that are mostly padding": (
            "nut (superadd): 100 % of the pixels of tiles of 1024 px from images of 80 x 60. Try tiling.window: 60"
        ),
        # All are below 16 pixels; the second smallest has 4: 1024 * 4 / 16 = 256.
        "category has defects smaller than half a token": (
            "nut (superadd): 10 of 10 defects are smaller than half a token (16 px). Try tiling.window: 256"
        ),
        "category has defects smaller than the erosion block": (
            "nut (superadd): 10 of 10 defects are smaller than the erosion block (24 px). Try binarize.erosion_size: 1"
        ),
    }, "one of ten defects is smaller than a mask pixel of 4, which is tolerated"
    joined = texts(project(root, tiling={"window": "joined", "image_scale": 0.25}))
    assert "Try tiling.image_scale: 1.0" in joined["category has defects smaller than half a token"]


def test_what_is_advised_ends_the_advice(root: Path) -> None:
    good = {"tiling": {"window": 60}, "binarize": {"erosion_size": 4}, "merge": {"scale": 1.0}}
    assert advice(project(root, **good)) == []
    row = method_rows(project(root, **good))[0]
    assert [row.below(side) for side in (row.scales.token, row.scales.erosion, row.scales.mask_pixel)] == [0, 1, 0]
    assert list(row.widths) == list(range(3, 13))
    coarse = project(root, **good | {"merge": {"scale": 0.2}})
    assert "Try merge.scale: 0.5" in texts(coarse)["category has defects smaller than a mask pixel"]


def test_large_images_reduced_to_little(root: Path) -> None:
    wide = project(root, tiling={"window": "image"}, encoder={"input_size": 16 * 2})
    assert "category has tiles that are reduced a lot" not in texts(wide)
    write_image(root / "big" / "train" / "0.png", 60, 2100)
    write_image(root / "big" / "test" / "0.png", 60, 2100)
    found = texts(project(root, tiling={"window": "image"}))
    assert found["category has tiles that are reduced a lot"] == (
        "big (superadd): tiles of 2100 px from images of 2100 x 60 become 256 px. Try tiling.window: 512"
    )
    assert found["category has few training images"] == (
        "big: 1 in train. Add images of good parts, or try detectors: [musc], which needs none"
    )


def test_auto_windows_fit_the_images_and_one_small_image_shows(root: Path) -> None:
    fitting = project(root, tiling={"window": "auto"})
    crop = {"category": "nut", "split": "test"}
    assert fitting.params("crop", **crop)["window"] == 60
    write_image(root / "nut" / "train" / "tiny.png", 20, 90)
    small = project(root, tiling={"window": "auto"})
    assert small.params("crop", **crop)["window"] == 20
    assert texts(small)["category has windows as small as one small image"] == (
        "nut (superadd): windows of 20 px, though nearly all images have sides of 60 px or more. Take the small images "
        "out, or try tiling.window: 60"
    )
    write_image(root / "nut" / "train" / "wide.png", 60, 400)
    (root / "nut" / "train" / "tiny.png").unlink()
    again = project(root, tiling={"window": "auto"})
    assert repr(again.params("crop", **crop)) == repr(fitting.params("crop", **crop)), "the same window is no change"


def test_auto_windows_are_those_of_each_category(root: Path) -> None:
    for split in ("train", "test"):
        write_image(root / "big" / split / "0.png", 3000, 2000)
        write_image(root / "dot" / split / "0.png", 5, 5)
    planned = project(root, tiling={"window": "auto"})
    windows = {name: planned.params("crop", category=name, split="test")["window"] for name in ("big", "dot", "nut")}
    assert windows == {"big": 1024, "dot": 8, "nut": 60}, "no more than published, no less than 8"
    whole = parse({"dataset": {"root": str(root), "layout": "folder", "splits": ["test"]}, "detectors": ["musc"]})
    musc = Project(whole, root.parent / "results").params("crop", detector="musc", category="nut", split="test")
    assert musc["window"] == "image"


def test_the_plan_opens_files_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plan_warnings(project(root))
    opened = []
    monkeypatch.setattr("robis.workflow.image_facts.image_size", lambda path: opened.append(path) or (60, 80))
    monkeypatch.setattr("robis.workflow.image_facts.mask_widths", lambda path: opened.append(path) or [])
    assert plan_warnings(project(root)) == first
    assert opened == []
    write_image(root / "nut" / "train" / "00.png", 61, 80)
    plan_warnings(project(root))
    assert opened == [root / "nut" / "train" / "00.png"]


def test_the_report_repeats_the_warnings_and_follows_them_alone(root: Path) -> None:
    padded, fitting = project(root), project(root, tiling={"window": 60})
    assert padded.params("report")["warnings"] == advice_texts(padded.advice) != []
    assert "mostly padding" in padded.params("report")["warnings"][-1]
    assert not any("padding" in text for text in fitting.params("report")["warnings"])
    assert "10 of 10 defects" in str(project(root).params("report")["warnings"])
    write_mask_of(root / "nut" / "masks" / "dent" / "0.png", squares(5, 5))
    assert "11 of 11 defects" in str(project(root).params("report")["warnings"])


def test_rewording_a_warning_renews_no_report(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = {"encoder": {"weights": "random"}}
    before = project(root, **random).params("report")
    for name, rule in RULES.items():
        kind = replace(rule.kind, singular=f"{rule.kind.singular} here", cure="Other words")
        monkeypatch.setitem(RULES, name, Rule(kind, f"Now {rule.text}"))
    notice = "Weights are random."
    monkeypatch.setattr("robis.workflow.project.random_weights_notice", lambda planned: notice)
    after = project(root, **random).params("report")
    assert (after["notice"], after["warnings"] != before["warnings"]) == (notice, True)
    assert repr(after) == repr(before)


def test_a_fact_behind_a_warning_renews_the_report(root: Path) -> None:
    """Each change alters a warning, and nothing else that the report reads."""
    trained = {"tiling": {"window": 60}, "binarize": {"erosion_size": 1}, "merge": {"scale": 1.0}}
    changes = [{}, {"encoder": {"weights": "random"}}, {"binarize": {"erosion_size": 6}}]
    plans = [repr(project(root, **trained | change).params("report")) for change in changes]
    assert len(set(plans)) == 3
    for file in sorted((root / "nut" / "train").iterdir())[1:]:
        file.unlink()
    few = project(root, **trained)
    assert "nut: 1 in train" in str(few.params("report")["warnings"])
    assert ("few", "nut", ("detector", "musc"), ("images", 1)) in few.params("report")["advice"]
    assert repr(few.params("report")) != plans[0]


def test_data_check_says_what_the_plan_says(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = project(root)
    lines = [line for text in plan_warnings(planned) for line in text.splitlines()]
    file = root.parent / "config.yaml"
    file.write_text(
        f"dataset: {{root: {root}, layout: folder, splits: [test]}}\n"
        "detectors: [superadd]\nencoder: {name: efficientnet_lite0}\ntiling: {window: 1024}\nrefine: {method: none}\n"
    )
    assert main(["data", "check", "--configfile", str(file)]) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in lines)
    cells = next(line.split() for line in printed.splitlines() if line.startswith("nut       superadd"))
    below = ["10", "10", "1"]  # the token, the erosion block, the mask pixel
    units = ["80", "x", "60", "1024", "256", "32", "24", "4", "100", "%", "10"]
    assert cells == ["nut", "superadd", *units, *below]


def test_data_check_guesses_the_layout(root: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", str(root)]) == 0
    printed = capsys.readouterr().out
    assert f"{root}, layout folder;" in printed
    assert f"`robis init {root}` writes settings that fit these images." in printed
    assert "Try tiling.window" not in printed, "settings that were made for other images"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(f"dataset: {{root: {root}, layout: visa}}\n")
    assert main(["data", "check", "--layout", "folder"]) == 0
    assert f"`robis init {root}` writes settings" in capsys.readouterr().out, "a config for another layout"
    assert not (tmp_path / "results").exists(), "nothing is written"
    for n in range(3):
        write_image(tmp_path / "loose" / f"{n}.png")
    assert main(["data", "check", str(tmp_path / "loose")]) == 1
    assert "robis init" in capsys.readouterr().err


def test_an_empty_train_says_what_needs_none(root: Path) -> None:
    for file in (root / "nut" / "train").iterdir():
        file.unlink()
    planned = project(root)
    with pytest.raises(DataError, match=r"nut/train: no images in(.|\n)*Some detectors need no images in train"):
        plan_warnings(planned)
    report = check_for_config(planned.settings, planned.source)
    assert "need no images in train" in report.dataset.problems[0].text
