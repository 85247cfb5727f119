"""Regions of final masks: their table and embeddings, and the evidence that explains them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from robis.detectors.anomalydino import infer as anomalydino_infer
from robis.detectors.anomalydino import train as anomalydino_train
from robis.detectors.anomalydino.tokens import make_encoder, unit_tokens
from robis.detectors.evidence import Explainer, plain_explainer
from robis.detectors.inp_former import infer as inp_former_infer
from robis.detectors.inp_former.model import InpFormer, initialize
from robis.detectors.jobs import Compute, InferJob, MapScale, NormalImages, ScorerJob
from robis.detectors.memory_bank.evidence import Patch
from robis.detectors.model_files import write_model
from robis.detectors.patchcore import infer as patchcore_infer
from robis.detectors.patchcore import train as patchcore_train
from robis.detectors.patchcore.patches import patch_features
from robis.detectors.superadd import evidence as superadd_evidence
from robis.detectors.superadd import infer as superadd_infer
from robis.detectors.superadd import train as superadd_train
from robis.detectors.superadd.blocks import superadd_blocks
from robis.encoders.build import build_encoder
from robis.evaluation.regions import labeled_regions
from robis.io.ignored import encode
from robis.io.maps import write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.regions.cells import best_tiles, covered_cells
from robis.regions.stage import COLUMNS, Inspected, RegionFiles, describe_regions
from robis.report.evidence import write_evidence
from robis.report.inputs import RunFiles
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.store import Cutting, crop_split, open_tiles
from robis.tiles.windows import Window
from tests.detector_jobs import train_job

SIDE, GRID, STEP = 64, 4, 16
HEIGHT, WIDTH = 96, 128
ENCODER = {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": SIDE, "blocks": [1, 3]}
# A pattern that no other place has, and where one normal image has it: on whole tokens of the second row of tiles.
PATTERN = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((4, 4)))[..., None] * np.array([255, 40, 0])
NORMAL_PLACE, INSPECTED_PLACE = (80, 64), (32, 32)  # x, y
SUPERADD = {
    **{"bank_size": 10_000, "rounds": 1, "redraw_subsets": False, "neighbors": 3, "radius_growth": 1.1},
    **{"brightness_jitter": 0.0, "image_scale": 1.0, "overlap": 0.5, "seed": 0, "memory_gb": 1.0},
}
REFERENCES = {"shots": 0, "reference_seed": 0, "references": [], "rotations": 0}


def place(image: np.ndarray, x_y: tuple[int, int]) -> None:
    image[x_y[1] : x_y[1] + STEP, x_y[0] : x_y[0] + STEP] = PATTERN


def make_split(folder: Path, split: str, images: dict[str, np.ndarray], window: int | str, **sample: Any) -> TileStore:
    """Images, their table, and tiles that overlap by a half."""
    rows = []
    for name, image in images.items():
        path = folder / split / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image[..., ::-1])
        rows.append(IndexedSample(name, split, f"{split}/{name}.png", None, None, None, *image.shape[:2], **sample))
    write_samples(folder / f"{split}.samples", rows)
    store = TileStore(folder / f"{split}.npy", folder / f"{split}.parquet")
    size = None if window == "joined" else SIDE
    crop_split(folder / f"{split}.samples", folder, store, Cutting(window, 0.5, "shift", size))
    return store


def noise(count: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"{seed}{n}": rng.integers(90, 110, (HEIGHT, WIDTH, 3), dtype=np.uint8) for n in range(count)}


class Case:
    """Two normal images, of which the first has the pattern, and two inspected ones, of which the first has it."""

    def __init__(self, folder: Path, window: int | str, ignored: np.ndarray | None = None) -> None:
        self.folder, self.window = folder, window
        normal, inspected = noise(2, 1), noise(2, 2)
        place(normal["10"], NORMAL_PLACE)
        place(inspected["20"], INSPECTED_PLACE)
        options = {} if ignored is None else {"ignored": encode(ignored)}
        self.train = make_split(folder, "train", normal, window, **options)
        self.test = make_split(folder, "test", inspected, window)
        self.model = folder / "model.safetensors"
        self.normal = NormalImages(folder / "train.samples", self.train)
        self.mark({"20": (slice(33, 47), slice(33, 47)), "21": None})

    def mark(self, regions: dict[str, tuple[slice, slice] | None]) -> None:
        for name, region in regions.items():
            mask = np.zeros((HEIGHT, WIDTH), bool)
            if region:
                mask[region] = True
            write_mask(self.folder / "masks" / f"{name}.png", mask)
            write_map(self.folder / "maps" / f"{name}.tiff", mask.astype(np.float16))

    def learn(self, train: Callable[..., None], options: dict[str, Any]) -> None:
        files = (self.train.tiles, self.train.table, self.model, self.folder / "history.parquet")
        train(train_job(*files, encoder=ENCODER, **options))

    def scorer(self, **options: Any) -> ScorerJob:
        size = MapScale(self.window, GRID / SIDE)
        return ScorerJob({"model": self.model}, ENCODER, options, Compute(device="cpu", threads=2), size)

    def describe(self, explainer: Explainer) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
        files = RegionFiles(*(self.folder / name for name in ("regions.parquet", "regions.npy", "evidence.parquet")))
        inspected = Inspected(self.folder / "test.samples", self.folder / "masks", self.folder / "maps", self.test)
        describe_regions(files, inspected, explainer)
        return pd.read_parquet(files.table), np.load(files.embeddings), pd.read_parquet(files.evidence)

    def raw_maps(self, infer: Callable[[InferJob], None], **options: Any) -> np.ndarray:
        """Raw maps with a pixel per token, without smoothing: the distances of the tokens."""
        output, job = TileMaps(self.folder / "m.npy", self.folder / "m.parquet"), self.scorer(**options)
        infer(InferJob(self.test, output, job.inputs, ENCODER, options, job.compute, job.size))
        maps: np.ndarray = np.load(output.maps)
        return maps


# The table.


def test_a_region_belongs_to_no_tile_that_has_no_part_in_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first tile holds the region farther inside than the second, but more than half of it is ignored."""
    case = Case(tmp_path, SIDE)
    ignored = np.zeros((HEIGHT, WIDTH), bool)
    ignored[:, :40] = True
    case.mark({"20": (slice(4, 20), slice(42, 47)), "21": None})
    train, options, _, explain, scoring = BANKS["patchcore"]
    case.learn(train.train_category, options | {"window": SIDE})
    explainer = explain.load_explainer(case.scorer(**scoring), case.normal)
    encoded, seen = type(explainer).encoded, []

    def noted(self: Any, store: TileStore, tiles: list[int]) -> Any:
        seen.append(list(tiles))
        return encoded(self, store, tiles)

    monkeypatch.setattr(type(explainer), "encoded", noted)
    case.describe(explainer)
    case.test = make_split(tmp_path, "test", noise(2, 2), SIDE, ignored=encode(ignored))
    case.describe(explainer)
    assert seen == [[0], [1]]


def test_regions_are_numbered_by_size_and_measured_in_image_pixels() -> None:
    mask = np.zeros((4, 6), bool)
    mask[0, 0], mask[2:4, 1:3], mask[1, 5] = True, True, True
    labels, regions = labeled_regions(mask, 8, 15)
    # Pixels of 2.5 x 2 image pixels.
    assert [region.box for region in regions] == [(2, 4, 6, 4), (0, 0, 3, 2), (12, 2, 3, 2)]
    assert [region.pixels for region in regions] == [4, 1, 1]
    assert all((labels == region.label).sum() == region.pixels for region in regions)


def test_a_region_belongs_to_the_tile_that_holds_most_of_it_and_then_to_the_nearest() -> None:
    mask = np.zeros((4, 12), bool)
    mask[1, 1:4] = mask[3, 6] = True
    labels, regions = labeled_regions(mask, 8, 24)
    windows = [Window(0, n, x, 0, 8, 8) for n, x in enumerate((0, 4, 8, 12))]
    # In x from 2 to 8, all of it in the first; from 12 to 14, at the border of the second and in the middle of none.
    assert best_tiles(labels, regions, windows, (2, 2)) == [0, 2]


def test_the_cells_of_a_region_are_those_that_it_overlaps() -> None:
    mask = np.zeros((4, 6), bool)
    mask[1, 2:4] = True
    labels, (region,) = labeled_regions(mask, 8, 12)
    # y from 2 to 4, x from 4 to 8: of the window's cells of 3 x 2 pixels, x from 1 to 4, 4 to 7 and 7 to 10.
    assert covered_cells(labels, region, (2, 2), Window(0, 0, 1, 0, 9, 8), (4, 3)).tolist() == [4, 5]
    assert covered_cells(labels, region, (2, 2), Window(0, 0, 5, 3, 8, 8), (2, 2)).tolist() == [0]
    assert covered_cells(labels, region, (2, 2), Window(0, 0, 20, 3, 8, 8), (2, 2)).tolist() == [0], "the nearest"


def test_an_embedding_is_the_mean_of_the_tokens_and_a_tile_is_encoded_once(tmp_path: Path) -> None:
    class Watched(Explainer):
        sizes: ClassVar[list[int]] = []

        def values(self, tiles: Tensor) -> list[Tensor]:
            self.sizes.append(len(tiles))
            return super().values(tiles)

    case = Case(tmp_path, SIDE)
    case.mark({"20": (slice(33, 47), slice(33, 50)), "21": (slice(70, 72), slice(10, 12))})
    explainer = Watched(build_encoder(**ENCODER), Compute(device="cpu", threads=2))
    table, embeddings, evidence = case.describe(explainer)
    assert table.to_dict("list") == {
        **{"sample_id": ["20", "21"], "region": [1, 1], "x": [33, 10], "y": [33, 70], "width": [17, 2]},
        **{"height": [14, 2], "area": [238, 4], "peak_x": [33, 10], "peak_y": [33, 70]},
    }
    assert Watched.sizes == [1, 1], "tiles without a region are not encoded, and a CPU takes one at a time"
    assert len(evidence) == 0 and list(evidence) == ["sample_id", "region"]
    # The tile at (0, 32) or nearer: its tokens from x 32 to 64 and y 32 to 48, computed from the image.
    tiles, rows = open_tiles(case.test.tiles, case.test.table)
    expected = []
    for sample_id, x_y, cells in (("20", (0, 0), [(2, 2), (2, 3)]), ("21", (0, 32), [(2, 0)])):
        row = rows[(rows["sample_id"] == sample_id) & (rows["x"] == x_y[0]) & (rows["y"] == x_y[1])].iloc[0]
        with torch.inference_mode():
            blocks = build_encoder(**ENCODER)(torch.from_numpy(np.array(tiles[[row["tile"]]])))
        unit = [(block[0] / block[0].norm(dim=-1, keepdim=True)).unflatten(0, (GRID, GRID)) for block in blocks]
        expected.append(np.concatenate([np.mean([block[cell].numpy() for cell in cells], 0) for block in unit]))
    np.testing.assert_allclose(embeddings, np.stack(expected), atol=1e-5)


def test_masks_without_regions_give_empty_tables(tmp_path: Path) -> None:
    case = Case(tmp_path, SIDE)
    case.mark({"20": None, "21": None})
    case.learn(patchcore_train.train_category, PATCHCORE)
    table, embeddings, evidence = case.describe(
        patchcore_infer.load_explainer(case.scorer(smoothing_sigma=0), case.normal)
    )
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COLUMNS and not len(table)
    assert embeddings.shape == (0, 1024) and embeddings.dtype == np.float32
    assert not len(evidence) and evidence["distance"].dtype == np.float64 and "normal_x" in evidence


# Memory banks.

PATCHCORE = {"coreset_fraction": 1.0, "start_points": 2, "projected_width": 8, "seed": 0}
BANKS: dict[str, Any] = {
    "patchcore": (patchcore_train, PATCHCORE, patchcore_infer, patchcore_infer, {"smoothing_sigma": 0}),
    "anomalydino": (anomalydino_train, REFERENCES, anomalydino_infer, anomalydino_infer, {"smoothing_sigma": 0}),
    "superadd": (superadd_train, SUPERADD, superadd_infer, superadd_evidence, SUPERADD | {"smoothing_sigma": 0}),
}


def token_vectors(name: str, tiles: np.ndarray) -> list[np.ndarray]:
    """Tokens of tiles as the detector compares them, (N * GRID * GRID, C) of each block, without its bank."""
    with torch.inference_mode():
        batch = torch.from_numpy(tiles)
        if name == "patchcore":
            blocks = patch_features(build_encoder(**ENCODER)).tokens(batch)
        elif name == "anomalydino":
            blocks = unit_tokens(make_encoder(ENCODER)).tokens(batch)
        else:
            blocks = build_encoder(**ENCODER, by_depth=superadd_blocks, seed=0)(batch)
    return [block.double().flatten(0, 1).numpy() for block in blocks]


SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "patchcore": np.square,
    "anomalydino": lambda distances: distances**2 / 2,
    "superadd": lambda distances: distances / 192,
}


@pytest.mark.parametrize("name", BANKS)
def test_the_nearest_normal_patches_are_those_of_scikit_learn(name: str, tmp_path: Path) -> None:
    """The same places and distances, though a part of the training images is ignored and their tiles overlap."""
    ignored = np.zeros((HEIGHT, WIDTH), bool)
    ignored[:32, :64] = True
    case = Case(tmp_path, SIDE, ignored)
    train, options, infer, explain, scoring = BANKS[name]
    case.learn(train.train_category, options | {"window": SIDE})
    _, _, evidence = case.describe(explain.load_explainer(case.scorer(**scoring), case.normal))
    tiles, rows = open_tiles(case.train.tiles, case.train.table)
    kept = np.ones((len(rows), GRID, GRID), bool)
    for row in rows.to_dict("records"):
        down, right = max(0, 32 - row["y"]) // STEP, max(0, 64 - row["x"]) // STEP
        kept[row["tile"], :down, :right] = False
    origins = np.argwhere(kept)
    # The tile at (0, 0) shows the pattern in its third row and column.
    inspected = token_vectors(name, np.array(open_tiles(case.test.tiles, case.test.table)[0][:1]))
    raw = case.raw_maps(infer.infer_split, **scoring)
    values = evidence[evidence["sample_id"] == "20"]
    first = values[values["rank"] == 1]["distance"]
    assert np.float32(first.mean()).astype(raw.dtype) == raw[0, 2, 2], "the distance of which the map is made"
    normal = token_vectors(name, np.array(tiles))
    for tokens, queries, (_, rows_of_block) in zip(normal, inspected, values.groupby("block", sort=True), strict=True):
        bank = tokens[kept.reshape(-1)]
        distances, numbers = NearestNeighbors(n_neighbors=len(bank)).fit(bank).kneighbors(queries[[2 * GRID + 2]])
        places: dict[tuple[Any, ...], float] = {}
        for distance, number in zip(SCALES[name](distances[0]), numbers[0], strict=True):
            tile, row, column = origins[number]
            of_tile = rows.iloc[tile]
            x_y = (int(of_tile["x"] + STEP * column), int(of_tile["y"] + STEP * row))
            places.setdefault((of_tile["sample_id"], *x_y), float(distance))
        expected = list(places.items())[:3]
        columns = rows_of_block[["normal_id", "normal_x", "normal_y"]].itertuples(index=False, name=None)
        assert list(columns) == [where for where, _ in expected]
        np.testing.assert_allclose(rows_of_block["distance"], [far for _, far in expected], rtol=1e-3, atol=1e-6)
        assert rows_of_block["rank"].tolist() == [1, 2, 3]
    assert (values[["normal_width", "normal_height"]] == STEP).all(axis=None)
    token = values[["token_x", "token_y", "token_width", "token_height"]].to_numpy()
    assert (token == [*INSPECTED_PLACE, STEP, STEP]).all()


@pytest.mark.parametrize(("name", "window"), [*((name, SIDE) for name in BANKS), ("superadd", "joined")])
def test_a_pattern_is_found_where_a_normal_image_has_it(name: str, window: int | str, tmp_path: Path) -> None:
    case = Case(tmp_path, window)
    train, options, _, explain, scoring = BANKS[name]
    case.learn(train.train_category, options | {"window": window})
    _, _, evidence = case.describe(explain.load_explainer(case.scorer(**scoring), case.normal))
    nearest = evidence[evidence["rank"] == 1].iloc[-1]
    assert nearest["normal_image"] == "train/10.png"
    box = nearest[["normal_x", "normal_y", "normal_width", "normal_height"]].tolist()
    x, y = NORMAL_PLACE
    assert box[0] <= x + 8 < box[0] + box[2] and box[1] <= y + 8 < box[1] + box[3]


def test_a_token_that_is_of_no_training_image_has_no_place(tmp_path: Path) -> None:
    """Tokens of confirmed false alarms lie behind the others of a bank, without an origin."""
    case = Case(tmp_path, SIDE)
    tokens = token_vectors("patchcore", np.array(open_tiles(case.test.tiles, case.test.table)[0][:1]))[0]
    bank = {"tokens": torch.from_numpy(tokens).float(), "origins": torch.zeros(1, 3, dtype=torch.int64)}
    write_model(case.model, bank, "patchcore", encoder=ENCODER["name"])
    _, _, evidence = case.describe(patchcore_infer.load_explainer(case.scorer(smoothing_sigma=0), case.normal))
    nearest = evidence.iloc[0]
    assert nearest["rank"] == 1 and nearest["distance"] < 1e-6
    assert pd.isna(nearest["normal_id"]) and pd.isna(nearest["normal_x"])
    assert evidence.iloc[1]["normal_id"] == "10", "the next one that has a place"


def test_patches_show_the_same_place_where_their_centers_are_near() -> None:
    patch = Patch("a", "a.png", 10, 10, 10, 10)
    assert patch.is_at(Patch("a", "a.png", 15, 12, 10, 10))
    assert not patch.is_at(Patch("b", "b.png", 10, 10, 10, 10))
    # Cells of 9.6 pixels beside each other, in whole pixels.
    assert not Patch("a", "a.png", 9, 10, 11, 10).is_at(Patch("a", "a.png", 19, 10, 10, 10))


# Reconstruction.


@pytest.mark.parametrize("ignores", [False, True])
def test_the_distances_of_groups_are_those_of_the_map(ignores: bool, tmp_path: Path) -> None:
    ignored = np.zeros((HEIGHT, WIDTH), bool)
    ignored[:48, :48] = ignores
    case = Case(tmp_path, SIDE, ignored if ignores else None)
    options = {"prototypes": 2, "seed": 0}
    network = InpFormer(build_encoder(**ENCODER, equal_widths=True), 2)
    initialize(network, 0)
    write_model(case.model, network.trainable(), "inp_former", encoder=ENCODER["name"])
    explainer = inp_former_infer.load_explainer(case.scorer(**options), case.normal)
    _, embeddings, evidence = case.describe(explainer)
    assert embeddings.shape == (1, 2 * 192) and evidence["group"].tolist() == [1, 2]

    def distances(tiles: Sequence[Any]) -> np.ndarray:
        with torch.inference_mode():
            encoded, decoded = network.eval().compare(torch.from_numpy(np.array(tiles)))
        pairs = zip(encoded, decoded, strict=True)
        return np.stack([(1 - F.cosine_similarity(a.double(), b.double(), dim=-1)).numpy() for a, b in pairs])

    token = distances(open_tiles(case.test.tiles, case.test.table)[0][:1])[:, 0, 2 * GRID + 2]
    np.testing.assert_allclose(evidence["distance"], token, atol=1e-5)
    tiles, rows = open_tiles(case.train.tiles, case.train.table)
    kept = np.ones((len(rows), GRID, GRID), bool)
    for row in rows.to_dict("records"):
        # Three tokens of the first tile each way, one of those that begin 32 pixels farther.
        down, right = (max(0, 48 - row[axis]) // STEP for axis in ("y", "x"))
        kept[row["tile"], :down, :right] = not ignores
    normal = distances(tiles)[:, kept.reshape(len(rows), -1)]
    for column, quantile in (("normal_median", 0.5), ("normal_99", 0.99), ("normal_max", 1)):
        np.testing.assert_allclose(evidence[column], np.quantile(normal, quantile, axis=1), atol=1e-5)
    np.testing.assert_allclose(evidence["percentile"], 100 * (normal < token[:, None]).mean(1), atol=0.5)


def test_without_normal_images_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    case = Case(tmp_path, SIDE)
    network = InpFormer(build_encoder(**ENCODER, equal_widths=True), 2)
    initialize(network, 0)
    write_model(case.model, network.trainable(), "inp_former", encoder=ENCODER["name"])
    job = case.scorer(prototypes=2, seed=0)
    _, _, evidence = case.describe(inp_former_infer.load_explainer(job, None))
    assert evidence["distance"].notna().all() and evidence["percentile"].isna().all()


# The report.


def run_files(folder: Path) -> RunFiles:
    here = dict.fromkeys(("samples", "maps", "thresholds", "coarse_masks", "masks", "scores"), folder)
    tables = {"regions": folder / "regions.parquet", "evidence": folder / "evidence.parquet"}
    return RunFiles("superadd", "nut", "test", **here, **tables)


def test_the_report_shows_the_largest_regions_and_the_block_that_counts_most(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((100, 120, 3), 90, np.uint8))
    cv2.imwrite(str(tmp_path / "n.png"), np.full((60, 60, 3), 200, np.uint8))
    box = {"x": 100, "y": 80, "width": 16, "height": 12}
    pd.DataFrame([{"sample_id": "a", "region": n, **box} for n in range(1, 8)]).to_parquet(tmp_path / "regions.parquet")
    normal = {"normal_id": "n", "normal_image": "n.png", "normal_x": 0, "normal_y": 8}
    normal |= {"normal_width": 8, "normal_height": 8}
    normal |= {"token_x": 104, "token_y": 80, "token_width": 8, "token_height": 8}
    evidence = [
        {"sample_id": "a", "region": region, "rank": rank, "block": block, "distance": block + rank / 10, **normal}
        for region in range(1, 8)
        for block in (1, 2)
        for rank in (1, 2, 3)
    ]
    pd.DataFrame(evidence).to_parquet(tmp_path / "evidence.parquet")
    samples = pd.DataFrame({"sample_id": ["b", "a"], "image": ["b.png", "a.png"], "height": 100, "width": 120})
    (tmp_path / "pictures").mkdir()
    options = {"root": tmp_path, "bit_depth": None, "threads": 1}
    entries = write_evidence(run_files(tmp_path), samples, tmp_path / "pictures", "run1", **options)
    assert entries is not None and entries[0] is None and [entry["region"] for entry in entries[1]] == [1, 2, 3, 4, 5]
    first = json.loads(json.dumps(entries[1][0]))
    assert [patch["distance"] for patch in first["normal"]] == pytest.approx([2.1, 2.2, 2.3])
    assert {(patch["id"], patch["x"], patch["y"]) for patch in first["normal"]} == {("n", 0, 8)}
    pictures = {file.name: cv2.imread(str(file)) for file in (tmp_path / "pictures").iterdir()}
    assert len(pictures) == 2, "the same part of an image is drawn once"
    assert all(picture.shape == (128, 128, 3) for picture in pictures.values())
    # A square of 24 pixels around the region's center; what lies beyond the normal image is black.
    shown = pictures[first["normal"][0]["picture"]]
    assert shown[64, 10].max() < 20 and shown[64, 110].min() > 180


def test_runs_without_evidence_show_none(tmp_path: Path) -> None:
    case = Case(tmp_path, SIDE)
    case.describe(plain_explainer(case.scorer()))
    samples = pd.DataFrame({"sample_id": ["20"], "image": ["test/20.png"], "height": HEIGHT, "width": WIDTH})
    options = {"root": tmp_path, "bit_depth": None, "threads": 1}
    assert write_evidence(run_files(tmp_path), samples, tmp_path, "run1", **options) is None
