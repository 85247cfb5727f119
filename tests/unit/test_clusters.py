"""Clusters of regions: known groups, scikit-learn's measures, any order of rows, and the files of the stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, pairwise_distances, silhouette_score

from robis.clusters import grouping
from robis.clusters.agreement import agreement, normalized_mutual_information, purity
from robis.clusters.grouping import cluster, mean_silhouette
from robis.clusters.stage import MEASURES, REGIONS, Described, cluster_regions
from robis.errors import DataError
from robis.io.samples import IndexedSample, write_samples
from robis.io.tables import write_table
from robis.report.clusters import read_regions
from robis.report.crops import SIDE, draw_region
from robis.report.overlays import OUTLINE
from robis.report.page import build_report
from tests.made_results import NASTY, Made, made_facts, made_files, report_files, write_data, write_run


def around(directions: np.ndarray, sizes: Sequence[int], spread: float = 0.1) -> np.ndarray:
    """Embeddings (sum of sizes, W), so many near each direction (K, W)."""
    rng = np.random.default_rng(1)
    rows = np.repeat(directions, sizes, axis=0)
    embeddings: np.ndarray = (rows + spread * rng.normal(size=rows.shape)).astype(np.float32)
    return embeddings


# Three groups that share a strong first component, as all regions of a product do.
GROUPS = around(10 * np.eye(8)[0] + np.eye(8)[[1, 2, 3]], (5, 12, 8))
TRUE = np.repeat([3, 1, 2], (5, 12, 8))


def test_known_groups_are_the_clusters_and_the_largest_comes_first() -> None:
    clusters = cluster(GROUPS)
    assert clusters.labels.tolist() == TRUE.tolist()
    assert clusters.count == 3 and clusters.silhouette is not None and clusters.silhouette > 0.7
    unit = GROUPS / np.linalg.norm(GROUPS, axis=1, keepdims=True)
    centered = unit - unit.mean(0)
    directions = centered / np.linalg.norm(centered, axis=1, keepdims=True)
    centers = np.stack([directions[label == TRUE].mean(0) for label in (1, 2, 3)])
    assert clusters.distances == pytest.approx(np.linalg.norm(directions - centers[TRUE - 1], axis=1), abs=1e-5)
    distances = pairwise_distances(directions)
    assert clusters.silhouette == pytest.approx(silhouette_score(distances, TRUE, metric="precomputed"), abs=1e-5)
    six = AgglomerativeClustering(6, linkage="ward").fit_predict(directions)
    assert adjusted_rand_score(six, cluster(GROUPS, 6).labels) == 1.0


def test_the_order_of_rows_and_lengths_change_nothing() -> None:
    # Many of the corners of a cube are equally far from each other.
    corners = np.random.default_rng(0).integers(0, 2, (40, 5)).astype(np.float32)
    for embeddings, count in ((np.concatenate([GROUPS, GROUPS[:4]]), None), (corners, 6)):
        clusters = cluster(embeddings, count)
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(len(embeddings))
            shuffled = cluster(embeddings[order], count)
            assert np.array_equal(shuffled.labels, clusters.labels[order])
            assert np.array_equal(shuffled.distances, clusters.distances[order])
        assert np.array_equal(cluster(embeddings * np.float32(4), count).labels, clusters.labels)


@pytest.mark.parametrize(
    ("embeddings", "labels"),
    [
        (GROUPS[:0], []),
        (GROUPS[:1], [1]),
        (GROUPS[:2], [1, 1]),
        (np.repeat(GROUPS[:1], 5, axis=0), [1] * 5),
        (np.zeros((3, 4), np.float32), [1] * 3),
        # Rounding errors of float16 are no difference.
        (GROUPS[[0] * 6] + np.repeat(1e-4 * np.eye(2, 8, dtype=np.float32), 3, axis=0), [1] * 6),
        # Nor is noise a cluster.
        (np.random.default_rng(0).normal(size=(40, 400)).astype(np.float32), [1] * 40),
    ],
)
def test_few_and_alike_embeddings_are_one_cluster(embeddings: np.ndarray, labels: list[int]) -> None:
    assert cluster(embeddings).labels.tolist() == labels
    assert cluster(embeddings).silhouette is None
    assert cluster(embeddings, 1).labels.tolist() == labels


def test_a_given_count_is_kept_as_far_as_embeddings_differ() -> None:
    assert cluster(GROUPS, 2).count == 2
    assert cluster(GROUPS[:4], 9).count == 4
    assert cluster(GROUPS[[0, 0, 1, 1]], 4).labels.tolist() in ([1, 1, 2, 2], [2, 2, 1, 1])


def test_of_many_embeddings_a_part_is_compared_and_the_others_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = around(10 * np.eye(8)[0] + np.eye(8)[[1, 2, 3]], (300, 500, 400))
    monkeypatch.setattr(grouping, "MOST_COMPARED", 60)
    clusters = cluster(embeddings)
    assert clusters.labels.tolist() == np.repeat([3, 1, 2], (300, 500, 400)).tolist()
    order = np.random.default_rng(0).permutation(len(embeddings))
    assert np.array_equal(cluster(embeddings[order]).labels, clusters.labels[order])


def test_silhouettes_are_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    distances = pairwise_distances(rng.normal(size=(30, 4)))
    for labels in (rng.integers(0, 4, 30), np.r_[np.zeros(29, int), 1], np.arange(30) % 15):
        expected = silhouette_score(distances, labels, metric="precomputed")
        assert mean_silhouette(distances, labels) == pytest.approx(expected)


def test_purity_and_mutual_information() -> None:
    # The example of Manning, Raghavan and Schütze, figures 16.4 and 16.5: purity 12 / 17, NMI 0.36.
    counts = np.array([[5, 1, 0], [1, 4, 1], [2, 0, 3]])
    assert purity(counts) == pytest.approx(12 / 17)
    assert normalized_mutual_information(counts) == pytest.approx(0.36, abs=0.005)
    rng = np.random.default_rng(5)
    clusters, kinds = rng.integers(1, 6, 200).tolist(), rng.choice(["cut", "dent", "hole"], 200).tolist()
    measured = agreement(clusters, kinds)
    assert measured is not None
    assert measured.nmi == pytest.approx(normalized_mutual_info_score(kinds, clusters))
    assert (measured.items, measured.kinds) == (200, 3)
    assert measured.largest_kind == max(kinds.count(kind) for kind in set(kinds)) / 200
    # These clusters are random ones.
    assert measured.nmi_by_chance == pytest.approx(measured.nmi, abs=0.03)
    assert measured.purity_by_chance == pytest.approx(measured.purity, abs=0.05)
    order = rng.permutation(200)
    assert agreement([clusters[n] for n in order], [kinds[n] for n in order]) == measured
    perfect = agreement([1, 1, 2, 3], ["a", "a", "b", "c"])
    assert perfect is not None and (perfect.purity, perfect.nmi, perfect.largest_kind) == (1.0, pytest.approx(1), 0.5)
    lumped = agreement([1, 1, 1], ["a", "b", "b"])
    assert lumped is not None and (lumped.purity, lumped.nmi) == (2 / 3, 0.0)
    assert agreement([1, 2], ["a", "a"]) is None
    assert agreement([], []) is None


def describe(folder: Path, split: str, samples: Sequence[IndexedSample], regions: Sequence[tuple[str, int]]) -> Path:
    """The tables of a split, without embeddings; the path of its embeddings."""
    write_samples(folder / "samples" / f"{split}.parquet", samples)
    rows = [
        {"sample_id": name, "region": number, "x": 4 * number, "y": 8, "width": 12, "height": 6, "area": 50}
        | {"peak_x": 9, "peak_y": 9}
        for name, number in regions
    ]
    columns = ["sample_id", "region", "x", "y", "width", "height", "area", "peak_x", "peak_y"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[1:], "int64") | {"sample_id": "str"})
    write_table(folder / "regions" / f"{split}.parquet", table)
    return folder / "regions" / f"{split}.npy"


def described(folder: Path, split: str) -> Described:
    regions = folder / "regions"
    return Described(folder / "samples" / f"{split}.parquet", regions / f"{split}.parquet", regions / f"{split}.npy")


def indexed(name: str, split: str, label: str | None, defect: str | None) -> IndexedSample:
    return IndexedSample(name, split, f"{split}/{name}.png", label, defect, None, 96, 128)


@pytest.fixture
def inspected(tmp_path: Path) -> Path:
    """Regions of two splits, of which two kinds of defects are clusters, and a third split without any."""
    test = [
        indexed("=cut", "test", "anomalous", "cut"),
        indexed("hole", "test", "anomalous", "hole"),
        indexed("good", "test", "normal", "good"),
        indexed("new", "test", None, None),
    ]
    more = [indexed("hole", "more", "anomalous", "hole")]
    regions = [("=cut", 1), ("=cut", 2), ("=cut", 3), ("hole", 1), ("good", 1), ("new", 1)]
    np.save(describe(tmp_path, "test", test, regions), GROUPS[[5, 6, 7, 20, 8, 21]])
    np.save(describe(tmp_path, "more", more, [("hole", 1)]), GROUPS[[19]])
    np.save(describe(tmp_path, "empty", [indexed("good", "empty", "normal", "good")], []), GROUPS[:0])
    return tmp_path


def test_the_stage_writes_regions_by_cluster_and_the_measures(inspected: Path) -> None:
    splits = [described(inspected, split) for split in ("test", "empty", "more")]
    output = inspected / "clusters"
    cluster_regions(output, splits)
    text = (output / REGIONS).read_text()
    assert "'=cut" in text, "no formula for spreadsheets"
    table = read_regions(output / REGIONS)
    assert table["cluster"].tolist() == [1, 1, 1, 1, 2, 2, 2]
    assert table["rank"].tolist() == [1, 2, 3, 4, 1, 2, 3]
    # The most central region of each image before the second one of any.
    assert sorted(table["sample_id"][:2]) == ["=cut", "good"]
    assert table["sample_id"][2:4].tolist() == ["=cut", "=cut"]
    of_cut = table[table["sample_id"] == "=cut"]
    assert of_cut["distance"].is_monotonic_increasing and of_cut["kind"].unique().tolist() == ["cut"]
    assert set(zip(table["split"][4:], table["sample_id"][4:], table["kind"][4:], strict=True)) == {
        ("test", "hole", "hole"),
        ("test", "new", ""),
        ("more", "hole", "hole"),
    }
    assert table.loc[table["sample_id"] == "good", "kind"].item() == "false alarm"
    place = table[table["sample_id"] == "new"].iloc[0]
    assert place[["image", "x", "y", "width", "height", "area"]].tolist() == ["test/new.png", 4, 8, 12, 6, 50]
    measures = pd.read_csv(output / MEASURES).iloc[0]
    assert (measures["regions"], measures["clusters"], measures["items"], measures["kinds"]) == (7, 2, 6, 3)
    assert measures["purity"] == pytest.approx(5 / 6)
    kinds, labels = ["c", "c", "c", "g", "h", "h"], [1, 1, 1, 1, 2, 2]
    assert measures["nmi"] == pytest.approx(normalized_mutual_info_score(kinds, labels))
    before = (output / REGIONS).read_bytes()
    cluster_regions(output, splits[::-1])
    assert (output / REGIONS).read_bytes() == before, "in any order of splits"
    cluster_regions(output, splits, cluster_count=3)
    assert read_regions(output / REGIONS)["cluster"].max() == 3


def test_the_stage_without_regions_writes_empty_tables(inspected: Path) -> None:
    cluster_regions(inspected / "clusters", [described(inspected, "empty")])
    assert read_regions(inspected / "clusters" / REGIONS).empty
    measures = pd.read_csv(inspected / "clusters" / MEASURES).iloc[0]
    assert (measures["regions"], measures["clusters"]) == (0, 0) and np.isnan(measures["nmi"])


def test_damaged_descriptions_are_named(inspected: Path) -> None:
    files = described(inspected, "test")
    np.save(files.embeddings, np.where(np.arange(6)[:, None] == 2, np.nan, GROUPS[:6]).astype(np.float32))
    with pytest.raises(DataError, match=r"test\.npy: row 2 has values that are not finite; .*describe_regions"):
        cluster_regions(inspected / "clusters", [files])
    np.save(files.embeddings, GROUPS[:5])
    with pytest.raises(DataError, match=r"shape \(5, 8\); expected float32 of shape \(6, any\)"):
        cluster_regions(inspected / "clusters", [files])
    np.save(files.embeddings, GROUPS[:6, :7])
    with pytest.raises(DataError, match=r"test\.npy: rows of 7 values; expected 8, as in .*more\.npy"):
        cluster_regions(inspected / "clusters", [described(inspected, "more"), files])
    with pytest.raises(DataError, match=r"test\.parquet: =cut is not in .*more\.parquet"):
        cluster_regions(inspected / "clusters", [replace(files, samples=described(inspected, "more").samples)])


def test_a_picture_shows_the_region_in_its_surroundings() -> None:
    image = np.full((400, 600, 3), 90, np.uint8)
    region = np.zeros((400, 600), bool)
    region[390:400, 580:600] = True
    picture = draw_region(image, region, (580, 390, 20, 10))
    assert picture.shape == (SIDE, SIDE, 3)
    outlined = np.argwhere((picture == OUTLINE).all(2))
    # 64 pixels of the image in its corner, enlarged three times: the region begins at column 44 and row 54 of them.
    assert outlined.min(0).tolist() == [3 * 54 - 2, 3 * 44 - 2]
    whole = draw_region(image, np.ones((400, 600), bool), (0, 0, 600, 400))
    assert whole.shape == (SIDE * 2 // 3, SIDE, 3)


SHOWN = [
    Made("bad/000", "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 24, 24), score=3.0),
    Made(NASTY, "anomalous", truth=(8, 8, 24, 40), final=(8, 8, 24, 40), score=2.0, size=(400, 600)),
    Made("good/000", final=(0, 0, 8, 8), score=1.0),
]


def test_the_report_shows_each_cluster_with_examples(tmp_path: Path) -> None:
    root, results = tmp_path / "data", tmp_path / "results" / "shop"
    write_data(root, results, "nut", "test", SHOWN)
    run = results / "inp_former"
    write_run(run, "nut", "test", SHOWN)
    samples = results / "samples" / "nut" / "test.parquet"
    columns = {"region": 1, "x": 0, "y": 0, "width": 32, "height": 24, "area": 99}
    names = pd.DataFrame({"sample_id": [made.sample_id for made in SHOWN]})
    write_table(run / "regions" / "nut" / "test.parquet", names.assign(**columns))
    embeddings = run / "regions" / "nut" / "test.npy"
    np.save(embeddings, GROUPS[[5, 6, 20]])
    folder = run / "region_clusters" / "nut"
    files = made_files(run, "nut", "test", clusters=folder)
    cluster_regions(folder, [Described(samples, embeddings.with_suffix(".parquet"), embeddings)])
    outputs = report_files(results / "report")
    # Two of the three images are in the gallery.
    build_report([files], outputs, made_facts(root, "inp_former"), images=2)
    text = outputs.page.read_text()
    assert 'href="#clusters"' in text and "nut, inp_former <span>3 regions in 2 clusters" in text
    assert "<span>bad <b>2</b></span>" in text and "<span>false alarm <b>1</b></span>" in text
    assert "Purity 100 %" in text and "a single cluster: 67 %" in text and "NMI 1.00" in text
    assert 'href="../inp_former/region_clusters/nut/regions.csv"' in text
    assert "<script>alert" not in text
    pictures = sorted(outputs.assets.glob("clusters/inp_former/nut/*.jpg"))
    assert [path.name for path in pictures] == ["1-1.jpg", "1-2.jpg", "2-1.jpg"]
    assert all(f'src="assets/clusters/inp_former/nut/{path.name}"' in text for path in pictures)
    assert sum(path.stat().st_size for path in pictures) < 3 * 40_000
    assert text.count("data-example=") == 2 and text.count("its image is not on this page") == 1
    build_report([replace(files, clusters=None)], outputs, made_facts(root, "inp_former"), images=2)
    assert "#clusters" not in outputs.page.read_text()
    (folder / REGIONS).write_text("cluster,rank\n1,1\n")
    with pytest.raises(DataError, match=r"regions\.csv: no column height, image, .*--forcerun cluster_regions"):
        build_report([files], outputs, made_facts(root, "inp_former"), images=2)
