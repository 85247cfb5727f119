"""`robis init` on ten kinds of folders: each gives a config that parses and a plan that stands."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from robis.cli import main
from robis.config.settings import SharedSettings
from robis.datasets.guess import guess_layout
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import load
from robis.detectors.suggestion import Machine, Suggestion, Work
from robis.errors import DataError
from robis.workflow.advice import advice
from robis.workflow.checks import check_plan
from robis.workflow.choosing import CPU, GPU, Category, choose, choose_units, count_tiles, expected_seconds
from robis.workflow.init import init
from robis.workflow.project import Project
from tests.conftest import REPOSITORY


def write(path: Path, height: int, width: int, *, gray: bool = False, bits: int = 8, peak: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.as_posix().encode()))
    shape = (height, width) if gray else (height, width, 3)
    image = rng.integers(0, peak or 2**bits, shape).astype(np.uint16 if bits == 16 else np.uint8)
    cv2.imwrite(str(path), image)


def write_mask(path: Path, height: int, width: int, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((height, width), np.uint8)
    mask[2 : 2 + side, 2 : 2 + side] = 255
    cv2.imwrite(str(path), mask)


def parts(root: Path, category: str, height: int, width: int, train: int = 20, test: int = 4, **kind) -> None:
    for n in range(train):
        write(root / category / "train" / f"{n:03}.png", height, width, **kind)
    for n in range(test):
        write(root / category / "test" / f"{n:03}.png", height, width, **kind)


def tiny(root: Path) -> None:
    parts(root, "nut", 24, 20)


def huge(root: Path) -> None:
    parts(root, "panel", 3000, 4000, train=2, test=1, gray=True)


def mixed_sizes(root: Path) -> None:
    for n, (height, width) in enumerate([(120, 90), (300, 400), (640, 480), (200, 1000)] * 4):
        write(root / "nut" / "train" / f"{n:03}.png", height, width)
        write(root / "nut" / "test" / f"{n:03}.png", height, width)


def gray(root: Path) -> None:
    parts(root, "nut", 100, 140, gray=True)


def sixteen_bits(root: Path) -> None:
    parts(root, "nut", 100, 140, gray=True, bits=16, peak=4096)


def labeled(root: Path) -> None:
    parts(root, "nut", 300, 400, test=0)
    for n in range(3):
        write(root / "nut" / "test" / "good" / f"{n}.png", 300, 400)
        write(root / "nut" / "test" / "crack" / f"{n}.png", 300, 400)
        write_mask(root / "nut" / "masks" / "crack" / f"{n}.png", 300, 400, 2 + n)


def unlabeled(root: Path) -> None:
    parts(root, "nut", 300, 400)


def one_category(root: Path) -> None:
    """The folder given is itself the category."""
    parts(root.parent, root.name, 90, 120)


def many_categories(root: Path) -> None:
    for n in range(12):
        parts(root, f"part_{n}", 60 + n, 80, train=3, test=2)
    parts(root, "panel", 1500, 2000, train=3, test=1)


def images_alone(root: Path) -> None:
    for n in range(6):
        write(root / f"{n}.png", 90, 120)


def sorted_images(root: Path) -> None:
    for n in range(12):
        write(root / "good" / f"{n}.png", 90, 120)
    for n in range(3):
        write(root / "scratch" / f"{n}.png", 90, 120)


def mvtec_ad_2(root: Path) -> None:
    for n in range(12):
        write(root / "can" / "train" / "good" / f"{n}.png", 64, 64)
    write(root / "can" / "validation" / "good" / "0.png", 64, 64)
    for split in ("test_private", "test_private_mixed"):
        write(root / "can" / split / "0.png", 64, 64)
    write(root / "can" / "test_public" / "good" / "0.png", 64, 64)


KINDS = [
    *(tiny, huge, mixed_sizes, gray, sixteen_bits, labeled, unlabeled, one_category, many_categories, images_alone),
    *(sorted_images, mvtec_ad_2),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the command is given."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(kind: Callable[[Path], None], *, gpu: bool = False) -> SharedSettings:
    kind(Path("data", "parts"))
    written = init(Path("data", "parts"), Path("c.yaml"), gpu=gpu)
    return load(written.config)


@pytest.mark.parametrize("gpu", [False, True], ids=["cpu", "gpu"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_config_is_short_and_its_plan_stands(here: Path, kind: Callable[[Path], None], gpu: bool) -> None:
    settings = configured(kind, gpu=gpu)
    text = Path("c.yaml").read_text()
    assert 10 <= len(text.splitlines()) <= 20, text
    assert all("# " in line for line in text.splitlines() if not line.startswith("  -"))
    project = Project(settings)
    check_plan(project)
    for category in project.categories:
        for run in project.detectors:
            job = {"detector": run, "category": category, "split": project.splits[0]}
            window = project.effective(**job).tiling.window
            sides = [min(size) for size in project.images.sizes(category)]
            assert window == "image" or window <= max(8, min(sides))
    kinds = {problem.kind.singular for problem in advice(project)}
    assert kinds <= {"category has few training images", "category has defects smaller than a mask pixel"}
    expected = ("dinov2_reg_vitb14", "bf16") if gpu else ("efficientnet_lite0", "float32")
    assert (settings.encoder.name, settings.infer.precision) == expected


@pytest.mark.parametrize(
    ("kind", "window", "scale", "erosion", "detector", "calibrate"),
    [
        (tiny, "auto", 1.0, 1, "superadd", "validation"),
        # Ten windows along 4,000 pixels take 400, and 384 is the next usual one.
        (huge, 384, 0.5, 6, "superadd", "split"),
        (mixed_sizes, "auto", 1.0, 2, "superadd", "validation"),
        (gray, "auto", 1.0, 1, "superadd", "validation"),
        # Defects of 2, 3 and 4 pixels: no more than the encoder's own resolution, 256 pixels.
        (labeled, 256, 1.0, 2, "superadd", "validation"),
        (unlabeled, "auto", 1.0, 3, "superadd", "validation"),
        (images_alone, "image", 1.0, 1, "musc", "split"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_what_is_chosen(
    here: Path, kind: Callable, window: object, scale: float, erosion: int, detector: str, calibrate: str
) -> None:
    settings = configured(kind)
    assert (settings.tiling.window, settings.merge.scale, settings.binarize.erosion_size) == (window, scale, erosion)
    assert (settings.detectors, settings.binarize.calibrate) == ([detector], calibrate)
    assert settings.merge.normalize == calibrate
    # Distances to a bank have a long tail; thresholds of validation images are raised for it.
    raised = detector == "superadd" and calibrate == "validation"
    assert settings.binarize.std_factor == (4.5 if raised else 3)


def test_windows_on_a_gpu_are_as_large_as_the_images_allow(here: Path) -> None:
    settings = configured(unlabeled, gpu=True)
    assert (settings.tiling.window, settings.detectors) == ("auto", ["inp_former"])
    # 2 tiles of 300 pixels along 400, of 20 images: batches of 10, and 200 epochs of 4 steps at most.
    assert (settings.inp_former.batch_size, settings.inp_former.epochs) == (10, 200)
    assert Project(settings).effective(detector="inp_former", category="nut", split="test").tiling.window == 300


def test_categories_of_other_sizes_get_their_own_windows(here: Path) -> None:
    settings = configured(many_categories)
    of = {name: Project(settings).effective(category=name, split="test") for name in ("part_0", "panel")}
    assert of["panel"].tiling.window == 256
    assert of["part_0"].tiling.window <= 60
    assert of["panel"].binarize.erosion_size == 6


def test_one_category_is_named_and_a_whole_data_set_is_not(here: Path) -> None:
    settings = configured(one_category)
    assert (settings.dataset.root, settings.dataset.categories) == ("data", ["parts"])
    assert (settings.dataset.name, settings.dataset.layout) == ("parts", "folder")


def test_categories_that_cannot_run_are_left_out(here: Path) -> None:
    root = Path("data", "parts")
    unlabeled(root)
    parts(root, "bolt", 60, 80, train=2, test=0)
    parts(root, "lid", 60, 80, train=0, test=2)
    written = init(root, Path("c.yaml"))
    assert load(written.config).dataset.categories == ["nut"]
    assert written.warnings == (
        "bolt: left out, since it has no images in test.",
        "lid: left out, since it has no images in train; detectors: [musc] needs none.",
    )


def test_images_without_splits_are_listed_in_a_table_beside_the_config(here: Path) -> None:
    sorted_images(Path("data", "parts"))
    Path("config").mkdir()
    written = init(Path("data", "parts"))
    assert (written.config, written.table) == (Path("config/parts.yaml"), Path("config/parts.csv"))
    settings = load(written.config)
    assert (settings.dataset.layout, settings.dataset.table) == ("table", "../../config/parts.csv")
    project = Project(settings)
    learned = [sample.sample_id for sample in project.images.samples("parts", "train")]
    inspected = {sample.sample_id: sample.label for sample in project.samples("parts", "test")}
    # Every fifth of the twelve good images, by name: 0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9.
    assert inspected == {f"good/{n}": "normal" for n in (2, 7)} | {f"scratch/{n}": "anomalous" for n in range(3)}
    assert len(learned) == 10
    assert not list(Path("data").rglob("*.csv")), "nothing is written among the images"


@pytest.mark.parametrize(
    ("kind", "layout", "categories"),
    [
        (unlabeled, "folder", ()),
        (one_category, "folder", ("parts",)),
        (mvtec_ad_2, "mvtec_ad_2", ()),
        (images_alone, "table", ()),
        (sorted_images, "table", ()),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_layouts_are_guessed(here: Path, kind: Callable, layout: str, categories: tuple[str, ...]) -> None:
    kind(Path("data", "parts"))
    guess = guess_layout(Path("data", "parts"))
    assert (guess.layout, guess.categories) == (layout, categories)
    assert (guess.table is not None) == (layout == "table")


def test_other_layouts_are_guessed_by_their_folders(here: Path) -> None:
    for n in range(2):
        write(Path("ad/nut/train/good") / f"{n}.png", 8, 8)
        write(Path("ad/nut/test/crack") / f"{n}.png", 8, 8)
    write(Path("ad/nut/ground_truth/crack/0_mask.png"), 8, 8)
    assert guess_layout(Path("ad")).layout == "mvtec_ad"
    write(Path("ad/nut/validation/good/0.png"), 8, 8)
    write(Path("ad/nut/test/logical_anomalies/0.png"), 8, 8)
    assert guess_layout(Path("ad")).layout == "mvtec_loco"
    Path("ad/samples.csv").touch()
    assert guess_layout(Path("ad")).layout == "table"
    Path("empty").mkdir()
    for folder, message in (("empty", "no images found"), ("absent", "no such folder")):
        with pytest.raises(DataError, match=f"{folder}: {message}"):
            guess_layout(Path(folder))


def test_the_command_prints_what_it_saw_and_what_to_do_next(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sixteen_bits(Path("data", "parts"))
    assert main(["init", "data/parts", "--cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "data/parts: 1 category, 20 images to learn from, 4 to inspect (4 unlabeled), 140 x 100 px, gray, 16 bits; CPU"
    )
    assert "bit_depth: 12" in Path("parts.yaml").read_text()
    assert printed.endswith(
        "Wrote parts.yaml. Next:\n  robis data check --configfile parts.yaml\n  robis run parts.yaml\n"
    )
    assert re.search(r"^# Expected time: about \d+ min on two CPU cores", Path("parts.yaml").read_text(), re.MULTILINE)


def test_masks_that_are_missing_for_some_defects_are_counted(here: Path) -> None:
    labeled(Path("data", "parts"))
    masks = Path("data", "parts", "nut", "masks", "crack")
    (masks / "1.png").unlink()
    written = init(Path("data", "parts"), Path("c.yaml"), gpu=False)
    assert [text.partition(" A run")[0] for text in written.warnings] == [
        "nut: 1 of 3 defective images in test has no mask."
    ]
    for mask in masks.iterdir():
        mask.unlink()
    assert init(Path("data", "parts"), Path("d.yaml"), gpu=False).warnings == ()


def test_the_sides_that_auto_stands_for_are_named(here: Path) -> None:
    many_categories(Path("data", "parts"))
    init(Path("data", "parts"), Path("c.yaml"), gpu=False)
    assert "shortest side of a category's images (60 to 71 px), at most 1024\n" in Path("c.yaml").read_text()


def test_an_existing_file_stays_unless_it_may_be_replaced(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images_alone(Path("data", "parts"))
    for name in ("parts.yaml", "parts.csv"):
        Path(name).write_text("mine")
        assert main(["init", "data/parts", "--cpu"]) == 1
        assert f"{name}: exists already. Give another file with --out" in capsys.readouterr().err
        assert Path(name).read_text() == "mine"
        Path(name).unlink()
    Path("parts.yaml").write_text("mine")
    assert main(["init", "data/parts", "--cpu", "--overwrite"]) == 0
    assert Path("parts.csv").read_text().startswith("category,split,image,label,mask,defect\nparts,test,0.png,,,\n")


def test_a_plan_that_fails_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("data/parts/0.png"), 20, 20)
    assert main(["init", "data/parts", "--cpu"]) == 1
    assert "mutual scoring needs at least 2 images" in capsys.readouterr().err
    assert sorted(Path().iterdir()) == [Path("data")]


@pytest.mark.parametrize("name", ["folder", "folder_cpu"])
def test_templates_are_short_and_plan(here: Path, name: str) -> None:
    file = REPOSITORY / "config" / f"{name}.yaml"
    assert 10 <= len(file.read_text().splitlines()) <= 20
    unlabeled(Path("data", "parts"))
    project = Project(load(file))
    check_plan(project)
    assert project.settings.merge.scale == 1, "masks have the images' size"
    assert advice(project) == []


def test_choices_follow_size_and_defects() -> None:
    """About 300, 1,000 and 4,000 pixels: the rows of docs/choosing.md."""
    of = {side: Category("a", [(side, side)] * 20, [(side, side)]) for side in (300, 1000, 4000)}
    chosen = {side: choose_units(category, CPU) for side, category in of.items()}
    assert [(one.window, one.scale, one.erosion) for one in chosen.values()] == [
        (300, 1.0, 3),
        (256, 1.0, 6),
        (384, 0.5, 6),
    ]
    assert [choose_units(category, GPU).window for category in of.values()] == [300, 1000, 1024]
    thin = Category("a", [(1000, 1000)], [(1000, 1000)], widths=[4] * 9 + [50])
    assert choose_units(thin, CPU).erosion == 4
    assert choose_units(thin, GPU).window == 512, "tokens of twice 4 pixels take 296; 518 is the tile's own resolution"
    hair = Category("a", [(4000, 4000)], [(4000, 4000)], widths=[1])
    assert choose_units(hair, CPU).window == 384, "no more than ten windows along a side, without their overlap"


def test_a_thumbnail_among_photos_does_not_set_the_window() -> None:
    photos = [(300, 400)] * 20
    assert choose_units(Category("a", photos, [(16, 16)]), CPU).window == 300
    assert choose_units(Category("a", photos, [(210, 210)] * 10), CPU).window == 210


def test_images_of_mixed_sizes_are_taken_whole() -> None:
    """Tiles of the smallest would be enlarged to blur, and there would be many of them."""
    small = [(100, 300)] * 10
    assert choose_units(Category("a", [(300, 400)] * 20, small), CPU).window == "image"
    assert choose_units(Category("a", [(300, 513)] * 20, small), CPU).window == 100, "a token would be too large"
    assert choose_units(Category("a", [(450, 500)] * 20, [(260, 400)] * 9), CPU).window == 260, "nothing to enlarge"


class QuickSuggestion(Suggestion):
    """Suits every machine and all images better than any other."""

    reason = "quick everywhere"
    options_reason = "as many neighbors as tiles of the smallest category"

    def rank(self, machine: Machine, *, learns: bool) -> int:
        return 100

    def options(self, work: Sequence[Work]) -> dict[str, int]:
        return {"neighbors": min(category.train_tiles for category in work)}

    def train_seconds(self, work: Work, options: Mapping[str, int], machine: Machine) -> float:
        return 600 * 60.0


def test_the_detector_of_the_best_rank_is_chosen(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that is added with a better rank is written with the options that it asks for, and its time."""
    known = DETECTORS["superadd"]
    quick = type("Quick", (type(known),), {"suggestion": QuickSuggestion()})()
    for gpu in (False, True):
        for learns in (False, True):
            machine = GPU if gpu else CPU
            best = [detector.suggestion.rank(machine, learns=learns) for detector in DETECTORS.values()]
            assert max(best) > 0 and best.count(max(best)) == 1, "one detector suits best, whatever the situation"
    monkeypatch.setitem(DETECTORS, "superadd", quick)
    settings = configured(unlabeled, gpu=True)
    text = Path("c.yaml").read_text()
    assert "detectors: [superadd] # quick everywhere" in text
    # 2 tiles of 300 pixels along 400, of 20 images.
    assert settings.superadd.neighbors == 40
    assert "superadd: {neighbors: 40} # as many neighbors as tiles of the smallest category" in text
    assert "# Expected time: about 10.0 h on one GPU" in text
    assert choose([Category("a", [], [(300, 400)])], CPU).detector is quick


def test_the_expected_time_adds_up() -> None:
    """Ten images of 512 x 512 and one to inspect, in windows of 256 (3 along a side)."""
    category = Category("a", [(512, 512)] * 10, [(512, 512)])
    settings = choose([category], CPU)
    assert settings.units["a"].window == 256
    assert count_tiles(category.train, 256) == 90
    # 90 tiles of 1,024 tokens, in ten subsets.
    assert settings.options == {"bank_size": 20_000, "rounds": 10}
    tokens = 90 * 1024
    thinning = CPU.pair * tokens * tokens / 10 / 1e6
    inferred = (9 + 9) * (CPU.encode + CPU.search)
    jobs = 16 * CPU.job[0] / CPU.job[1]
    expected = 90 * CPU.encode + thinning + inferred + CPU.megapixel * 0.262144 + jobs
    assert expected_seconds([category], settings, CPU) == pytest.approx(expected)
