"""The page: every image, the metric files' numbers, pictures of the size the page says, names that stay text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from robis.datasets.table import IndexedSample, write_samples
from robis.errors import DataError
from robis.evaluation import METRICS
from robis.files import write_map, write_mask, write_table
from robis.report import build_report
from robis.report.pictures import HEAT_RANGE, draw_heatmap, max_pool

NASTY = "bad/<script>alert(1)</script> & ü"


class Page(HTMLParser):
    """Collects the pictures, the script elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.scripts = 0
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))
        self.scripts += tag == "script"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture
def results(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two splits of one category: four labeled images of two sizes, two unlabeled ones."""
    root, results = tmp_path / "data", tmp_path / "results" / "shop"
    detector = results / "inp_former"
    rows = {
        "test": [("bad/000", "anomalous"), (NASTY, "anomalous"), ("good/000", "normal"), ("good/001", "normal")],
        "private": [("000", None), ("001", None)],
    }
    for split, samples in rows.items():
        table = []
        for n, (sample_id, label) in enumerate(samples):
            height, width = [(96, 128), (700, 1000)][n % 2]
            image, mask = f"nut/{split}/{n}.png", f"nut/masks/{split}{n}.png" if label == "anomalous" else None
            (root / image).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(root / image)
            marked = np.zeros((height, width), bool)
            marked[10:20, 10:30] = True
            if mask:
                (root / mask).parent.mkdir(parents=True, exist_ok=True)
                write_mask(root / mask, marked)
            small = (height // 4, width // 4)
            write_map(detector / "anomaly_images" / "nut" / split / f"{sample_id}.tiff", rng.random(small) * 255)
            for kind in ("coarse_masks", "anomaly_images_thresholded"):
                file = detector / kind / "nut" / split / f"{sample_id}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                write_mask(file, marked[::4, ::4] if n != 2 else np.zeros(small, bool))
            table.append(IndexedSample(sample_id, split, image, label, "bad" if mask else None, mask, height, width))
        write_samples(results / "samples" / "nut" / f"{split}.parquet", table)
        ids = [sample_id for sample_id, _ in samples]
        scores = {"sample_id": ids, "score": 1.0, "rescored": np.arange(len(ids)) + 0.25, "is_anomalous": True}
        scores = pd.DataFrame(scores)
        scores.loc[scores["sample_id"] == "good/000", "is_anomalous"] = False
        write_table(detector / "image_scores" / "nut" / f"{split}.parquet", scores)
        thresholds = {"sample_id": ids, "method": "robis", "threshold": 123.5, "mean_std": 130.25, "mebin": 123.5}
        write_table(detector / "thresholds" / "nut" / f"{split}.parquet", pd.DataFrame({**thresholds, "defects": 2}))
    values = {name: 0.1234 + n / 100 for n, name in enumerate(METRICS)} | {"aupro_0.05": None}
    row = {
        "detector": "inp_former",
        "category": "nut",
        "split": "test",
        "images": 4,
        "anomalous_images": 2,
        "defects": 2,
    }
    table = pd.DataFrame([row | values]).astype(dict.fromkeys(METRICS, "Float64"))
    write_table(detector / "metrics" / "nut" / "test.parquet", table)
    return results


def build(results: Path, *, images: int = 10, notice: str | None = "Weights are <random>.") -> Path:
    page = results / "report" / "index.html"
    build_report(
        results,
        results.parents[1] / "data",
        page,
        page.parent / "assets",
        page.parent / "metrics.csv",
        runs=[["inp_former", "nut", "test"], ["inp_former", "nut", "private"]],
        images=images,
        encoder="vit_tiny",
        notice=notice,
        threads=2,
    )
    return page


def test_every_image_is_shown_with_pictures_of_the_size_the_page_says(results: Path) -> None:
    page = build(results)
    parsed = Page(page.read_text(encoding="utf-8"))
    text = " ".join(parsed.words)
    for sample_id in ("bad/000", NASTY, "good/000", "good/001", "000", "001"):
        assert sample_id in text
    assert len({image["src"] for image in parsed.images}) >= 6 * 3 + 2
    for image in parsed.images:
        with Image.open(page.parent / unquote(str(image["src"]))) as picture:
            assert picture.size == (int(str(image["width"])), int(str(image["height"])))
            assert max(picture.size) <= 1000
        assert image["alt"] is not None
        assert image["loading"] == "lazy"
    for word in ("found", "false alarm", "clean", "unknown", "123.5", "vit_tiny", "Weights are <random>."):
        assert word in text


def test_names_stay_text(results: Path) -> None:
    text = build(results).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in (results / "report" / "assets").iterdir())


def test_numbers_are_those_of_the_metric_files(results: Path) -> None:
    page = build(results)
    text = page.read_text(encoding="utf-8")
    for n, name in enumerate(METRICS):
        if name != "aupro_0.05":
            assert f"{12.34 + n:.1f}" in text
    assert "\N{EN DASH}" in text, "an undefined metric is a dash"
    table = pd.read_csv(page.parent / "metrics.csv")
    assert table["category"].tolist() == ["nut", "mean"]
    assert table.loc[0, "image_auroc"] == pytest.approx(0.1234)
    assert table["aupro_0.05"].isna().all()
    assert (page.parent / "metrics.csv").read_text().splitlines()[1].startswith("inp_former,nut,test,4,2,2,")


def test_no_more_images_than_asked_for_defective_ones_first(results: Path) -> None:
    page = build(results, images=2)
    parsed = Page(page.read_text(encoding="utf-8"))
    text = " ".join(parsed.words)
    assert "bad/000" in text
    assert "good/000" not in text
    assert "2 more" in text or "left out" in text or "not shown" in text


def test_the_same_input_gives_the_same_bytes_and_old_pictures_go(results: Path) -> None:
    def content(page: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}

    first = content(build(results))
    assert content(build(results)) == first
    assert len(content(build(results, images=1))) < len(first)


def test_a_table_without_an_image_is_named(results: Path) -> None:
    file = results / "inp_former" / "image_scores" / "nut" / "test.parquet"
    write_table(file, pd.read_parquet(file).iloc[1:])
    with pytest.raises(DataError, match=r"image_scores/nut/test\.parquet: 1 of the 4 images .*\n.*bad/000"):
        build(results)
    assert not (results / "report" / "index.html").exists()


def test_shrinking_keeps_a_single_pixel() -> None:
    mask = np.zeros((1000, 1400), bool)
    mask[777, 901] = True
    small = max_pool(mask, 100, 140)
    assert np.argwhere(small).tolist() == [[77, 90]]
    peak = np.zeros((1000, 1400), np.float16)
    peak[777, 901] = HEAT_RANGE
    assert draw_heatmap(peak, 100, 140) != draw_heatmap(np.zeros_like(peak), 100, 140)
