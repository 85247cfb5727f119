"""Every file between two stages, damaged in every way, is named together with the rule that makes it again."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from robis.binarization.stage import SplitMaps, Thresholding, binarize_split
from robis.errors import DataError
from robis.evaluation.stage import EvaluatedRun, SplitFiles, evaluate_split
from robis.io.arrays import open_array
from robis.io.maps import read_map, read_written_mask, write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.io.tables import read_table, write_table
from robis.refinement.methods import Refining
from robis.refinement.stage import refine_split
from robis.scoring.image_scores import Scoring, score_images
from robis.scoring.judge import HeldOut, Judging, judge_split
from robis.tiles.files import TileMaps, TileStore
from robis.tiles.merge import merge_split
from robis.tiles.store import TILE_COLUMNS, Cutting, crop_split, open_tiles

SIZE = (12, 16)
NAMES = ("good/0", "bad/1")


class Split:
    """The files of a split of two images of one tile each, from the sample table to the image scores."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        samples = [
            IndexedSample(name, "test", f"{name}.png", label, None, None, *SIZE)
            for name, label in zip(NAMES, ("normal", "normal"), strict=True)
        ]
        write_samples(self.samples, samples)
        for name in NAMES:
            (folder / name).parent.mkdir()
            cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            write_map(folder / "maps" / f"{name}.tiff", rng.integers(0, 255, SIZE).astype(np.float16))
            for masks in ("coarse", "masks"):
                write_mask(folder / masks / f"{name}.png", rng.random(SIZE) > 0.5)
        rows = [(n, name, 0, 0, 0, 0, SIZE[1], SIZE[0]) for n, name in enumerate(NAMES)]
        table = pd.DataFrame(rows, columns=TILE_COLUMNS)
        np.save(self.tiles.tiles, rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8))
        np.save(self.tile_maps.maps, rng.random((2, 8, 8)).astype(np.float16))
        write_table(self.tiles.table, table)
        write_table(self.tile_maps.table, table.assign(score=[0.1, 0.2], embedding=[[1.0, 0.0], [0.0, 1.0]]))
        scores = {"sample_id": NAMES, "score": [0.1, 0.2], "rescored": [0.1, 0.2], "is_anomalous": [True, False]}
        write_table(self.scores, pd.DataFrame(scores))

    @property
    def samples(self) -> Path:
        return self.folder / "samples.parquet"

    @property
    def scores(self) -> Path:
        return self.folder / "scores.parquet"

    @property
    def tiles(self) -> TileStore:
        return TileStore(self.folder / "tiles.npy", self.folder / "tiles.parquet")

    @property
    def tile_maps(self) -> TileMaps:
        return TileMaps(self.folder / "tile_maps.npy", self.folder / "tile_maps.parquet")

    def crop(self) -> None:
        out = TileStore(self.folder / "out.npy", self.folder / "out.parquet")
        crop_split(self.samples, self.folder, out, Cutting("image", 0.1, "pad", 8))

    def open(self) -> None:
        open_tiles(self.tiles.tiles, self.tiles.table)

    def merge(self) -> None:
        out = self.folder / "out"
        merge_split(self.samples, self.tile_maps, self.tile_maps.maps, out, scale=1.0, blend="mean")

    def binarize(self) -> None:
        split, out = SplitMaps(self.samples, self.folder / "maps"), self.folder / "out"
        binarize_split(split, split, out, out.with_suffix(".parquet"), Thresholding("robis"))

    def refine(self) -> None:
        refine_split(self.samples, self.folder, self.folder / "coarse", self.folder / "out", Refining("grabcut"))

    def empty(self) -> None:
        """Refine with masks of images judged normal emptied."""
        options, out = Refining("none"), self.folder / "out"
        refine_split(self.samples, self.folder, self.folder / "coarse", out, options, verdicts=self.scores)

    def judge(self) -> None:
        """By a limit from the images themselves."""
        held_out = HeldOut(self.samples, self.tile_maps, self.tile_maps.maps, self.folder / "out_scores.parquet")
        out, options = self.folder / "out.parquet", Judging(0.1, 0.0, 1.0, "mean")
        judge_split(self.samples, self.folder / "maps", self.tile_maps.table, held_out, out, options)

    def score(self, **options: Any) -> None:
        maps, masks, out = self.folder / "maps", self.folder / "masks", self.folder / "out.parquet"
        embeddings = self.tile_maps.table if options else None
        chosen = Scoring(**({"top_fraction": 0.1, "method": "none"} | options))
        score_images(self.samples, maps, masks, self.tile_maps.table, out, chosen, embeddings=embeddings)

    def score_by_tiles(self) -> None:
        self.score(top_fraction="own")

    def rescore(self) -> None:
        self.score(method="rscin", neighborhood_sizes=[1])

    def evaluate(self) -> None:
        files = SplitFiles(self.samples, self.folder, self.folder / "maps", self.folder / "masks", self.scores)
        out = self.folder / "out.parquet"
        evaluate_split(files, out, out, EvaluatedRun("d", "c", "test"))


def other_array(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, change(np.load(path)))
    return stream.getvalue()


def other_table(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> bytes:
    return change(pd.read_parquet(path)).to_parquet()


def other_image(suffix: str, pixels: np.ndarray) -> bytes:
    if suffix == ".png":
        return cv2.imencode(".png", pixels)[1].tobytes()
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels)
    return stream.getvalue()


# What happens to any file, and to those of one suffix: from path and content to the new content.
Damage = Callable[[Path, bytes], bytes]
ANY: dict[str, Damage] = {
    "empty": lambda path, data: b"",
    "cut short": lambda path, data: data[:-7],
    "halved": lambda path, data: data[: len(data) // 2],
    "a beginning": lambda path, data: data[:9],
    "zeros": lambda path, data: bytes(len(data)),
    "a web page": lambda path, data: b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>" * 9,
    "a pointer": lambda path, data: b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 4\n",
}
BY_SUFFIX: dict[str, dict[str, Damage]] = {
    ".npy": {
        "only a header": lambda path, data: data[:128],
        "another type": lambda path, data: other_array(path, lambda array: array.astype(np.float64)),
        "another shape": lambda path, data: other_array(path, lambda array: array[:, 0]),
        "fewer items": lambda path, data: other_array(path, lambda array: array[:1]),
        "objects": lambda path, data: other_array(path, lambda array: np.array([None, {}])),
    },
    ".parquet": {
        "no column": lambda path, data: other_table(path, lambda table: table.drop(columns="sample_id")),
        "another type": lambda path, data: other_table(path, lambda table: table.assign(sample_id=[0.5, 1.5])),
    },
    ".tiff": {
        "another type": lambda path, data: other_image(".tiff", np.zeros(SIZE, np.float32)),
        "another shape": lambda path, data: other_image(".tiff", np.zeros((*SIZE, 3), np.float16)),
    },
    ".png": {
        "another type": lambda path, data: other_image(".png", np.zeros(SIZE, np.uint16)),
        "another shape": lambda path, data: other_image(".png", np.zeros((*SIZE, 3), np.uint8)),
        "gray": lambda path, data: other_image(".png", np.full(SIZE, 127, np.uint8)),
        "one bit wrong": lambda path, data: data[:50] + bytes([data[50] ^ 1]) + data[51:],
    },
}
# Who reads which file, and who writes it.
FILES = [
    ("crop", "samples.parquet", "index"),
    ("open", "tiles.npy", "crop"),
    ("open", "tiles.parquet", "crop"),
    ("merge", "samples.parquet", "index"),
    ("merge", "tile_maps.npy", "infer"),
    ("merge", "tile_maps.parquet", "infer"),
    ("binarize", "samples.parquet", "index"),
    ("binarize", "maps/bad/1.tiff", "merge"),
    ("refine", "samples.parquet", "index"),
    ("refine", "coarse/bad/1.png", "binarize"),
    ("empty", "scores.parquet", "judge"),
    ("judge", "samples.parquet", "index"),
    ("judge", "maps/bad/1.tiff", "merge"),
    ("judge", "tile_maps.npy", "infer"),
    ("judge", "tile_maps.parquet", "infer"),
    ("score", "samples.parquet", "index"),
    ("score", "maps/bad/1.tiff", "merge"),
    ("score", "masks/bad/1.png", "refine"),
    ("score_by_tiles", "tile_maps.parquet", "infer"),
    ("rescore", "tile_maps.parquet", "infer"),
    ("evaluate", "samples.parquet", "index"),
    ("evaluate", "maps/bad/1.tiff", "merge"),
    ("evaluate", "masks/bad/1.png", "refine"),
    ("evaluate", "scores.parquet", "score_images"),
]
CASES = [
    (reader, file, writer, name)
    for reader, file, writer in FILES
    for name in ("missing", *ANY, *BY_SUFFIX[Path(file).suffix])
]


@pytest.mark.parametrize(("reader", "file", "writer", "damage"), CASES)
def test_a_damaged_file_is_named_with_the_rule_that_makes_it(
    tmp_path: Path, reader: str, file: str, writer: str, damage: str
) -> None:
    split = Split(tmp_path)
    getattr(split, reader)()
    written = {path for path in tmp_path.rglob("*") if path.name.startswith("out")}
    for path in written - {tmp_path / "out"}:
        path.unlink()
    path = tmp_path / file
    if damage == "missing":
        path.unlink()
    else:
        change = ANY.get(damage) or BY_SUFFIX[path.suffix][damage]
        path.write_bytes(change(path, path.read_bytes()))
    with pytest.raises(DataError) as error:
        getattr(split, reader)()
    message = str(error.value)
    assert path.name in message and f"`snakemake --forcerun {writer}`" in message, message
    for confusing in ("allow_pickle", "Errno", "weights_only", "EOF"):
        assert confusing not in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("empty", r"a\.npy: not a readable \.npy file \(the file is empty\)\. Make it again with"),
        ("cut short", r"\(it is cut short: 171 of 178 bytes\)"),
        ("zeros", r"\(its values were never written: it begins with zeros\)"),
        ("a web page", r"\(it does not begin as a NumPy file does\)"),
    ],
)
def test_arrays_say_what_is_wrong(tmp_path: Path, damage: str, message: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(50, np.uint8))
    path.write_bytes(ANY[damage](path, path.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_array(path, stage="crop")


def test_images_and_tables_say_what_is_wrong(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.eye(5))
    write_map(tmp_path / "a.tiff", np.eye(5, dtype=np.float16))
    write_table(tmp_path / "a.parquet", pd.DataFrame({"a": [1, 2]}))
    for name in ("a.png", "a.tiff", "a.parquet"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: not a readable mask \(the file is empty\)\. .*--forcerun refine`\."):
        read_written_mask(tmp_path / "a.png", stage="refine")
    with pytest.raises(DataError, match=r"a\.tiff: not a readable TIFF \(the file is empty\)\. .*--forcerun merge`\."):
        read_map(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet table \(the file is empty\)\.$"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("value", [1e5, np.inf, np.nan])
def test_a_map_that_float16_cannot_hold_is_not_written(tmp_path: Path, value: float) -> None:
    values = np.zeros((4, 5), np.float32)
    values[2, 3] = value
    with pytest.raises(DataError, match=rf"a\.tiff: {value} at row 2, column 3; expected finite numbers up to 65504"):
        write_map(tmp_path / "a.tiff", values)
    assert not (tmp_path / "a.tiff").exists()
