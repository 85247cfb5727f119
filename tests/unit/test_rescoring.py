"""RsCIN against an example worked by hand and a formulation with explicit graph matrices."""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from robis.cli import main
from robis.errors import DataError
from robis.scoring import rscin as rescoring
from robis.scoring.rscin import image_embeddings, read_embeddings, rescore_file, rscin


def with_matrices(scores: np.ndarray, embeddings: np.ndarray, k: list[int]) -> np.ndarray:
    """P = D^-1 (W * mask) with every matrix written out, from sorted rows (no ties, no negative sums)."""
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    gram = embeddings @ embeddings.T
    results = []
    for size in k:
        mask = np.zeros_like(gram)
        for row, order in enumerate(np.argsort(-gram, axis=1)):
            mask[row, order[:size]] = 1
        weights = gram * mask
        results.append(np.diag(1 / weights.sum(axis=1)) @ weights @ scaled)
    return np.mean(results, axis=0)


def test_four_images_by_hand() -> None:
    # Angles 0, 60, 90 and 180 degrees. The nearest two of each: itself (1) and
    #   a: b (0.5);  b: c (0.866, before a, 0.5);  c: b (0.866);  d: c (0, before b, -0.5).
    angles = np.radians([0, 60, 90, 180])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    scores = np.array([10.0, 14.0, 18.0, 20.0])  # scaled: 0, 0.4, 0.8, 1
    root = np.sqrt(3) / 2
    one = [0, 0.4, 0.8, 1]
    two = [0.5 * 0.4 / 1.5, (0.4 + root * 0.8) / (1 + root), (0.8 + root * 0.4) / (1 + root), 1]
    np.testing.assert_allclose(rscin(scores, embeddings, [1]), one, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rscin(scores, embeddings, [2]), two, rtol=0, atol=1e-12)
    np.testing.assert_allclose(rscin(scores, embeddings, [1, 2]), np.add(one, two) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows_at_once", [1, 7, 1000])
@pytest.mark.parametrize("k", [[1, 2, 3], [1, 8, 9], [40]])
def test_blocks_of_rows_agree_with_whole_matrices(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, rows_at_once: int, k: list[int]
) -> None:
    embeddings = rng.standard_normal((40, 16)) + 2
    scores = rng.standard_normal(40)
    monkeypatch.setattr(rescoring, "SIMILARITIES_AT_ONCE", 40 * rows_at_once)
    found = rscin(scores, embeddings, k)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, with_matrices(scores, embeddings, k), rtol=0, atol=1e-12)


def test_the_length_of_an_embedding_counts() -> None:
    # W row 0: 1, 3, 0; the longer image outweighs image 0 itself, as in the published code.
    embeddings = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(rscin(np.array([0.0, 1.0, 0.5]), embeddings, [2]), [0.75, 0.75, 0.5], atol=1e-12)


def test_equal_similarities_take_the_image_itself_then_the_first() -> None:
    same = np.array([[0.6, 0.8]] * 4, np.float32)
    np.testing.assert_allclose(rscin(np.array([0.0, 0.4, 0.8, 1.0]), same, [1]), [0, 0.4, 0.8, 1], atol=1e-12)
    np.testing.assert_allclose(rscin(np.array([0.0, 0.4, 0.8, 1.0]), same, [2]), [0.2, 0.2, 0.4, 0.5], atol=1e-12)


def test_kept_entries_that_cancel_leave_the_score() -> None:
    embeddings = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(rscin(np.array([0.0, 2.0, 4.0]), embeddings, [1]), [0, 0.5, 1], atol=1e-12)
    # Image 0 keeps 1, 0 and -1: no sum to divide by. Image 2 keeps three zeros.
    np.testing.assert_allclose(rscin(np.array([0.0, 2.0, 4.0]), embeddings, [3]), [0, 0.5, 1], atol=1e-12)


def test_constant_scores_stay_as_they_are(rng: np.random.Generator) -> None:
    assert rscin(np.full(3, 7.5), rng.standard_normal((3, 4)), [1, 2]).tolist() == [7.5, 7.5, 7.5]
    assert rscin(np.array([3.0]), np.ones((1, 2)), [1]).tolist() == [3.0]


def test_thousands_of_images_need_no_square_matrix(rng: np.random.Generator) -> None:
    embeddings = rng.standard_normal((6_000, 8)).astype(np.float32)
    scores = rng.random(6_000)
    tracemalloc.start()
    found = rscin(scores, embeddings, [1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6, "6,000 x 6,000 numbers are 288 MB"
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("scores", "embeddings", "k", "message"),
    [
        ([1, 2, 3], np.eye(3), [1, 4], r"rescore\.neighborhood_sizes: found 4 for N = 3 images"),
        ([1, 1, 1], np.eye(3), [4], r"rescore\.neighborhood_sizes: found 4 for N = 3 images"),
        (
            [1, 2, 3],
            np.eye(3),
            [0],
            r"rescore\.neighborhood_sizes: found 0 for N = 3 images; expected numbers from 1 to N",
        ),
        ([1, 2, 3], np.eye(3), [], r"rescore\.neighborhood_sizes: found none"),
        ([1, 2], np.eye(3), [1], r"scores are \(2,\), embeddings \(3, 3\); expected \(N,\) and \(N, D\)"),
        ([1, 2, 3], np.ones(3), [1], r"embeddings \(3,\); expected"),
        ([1, np.nan, 3], np.eye(3), [1], "the score of image 1 is not finite"),
        ([1, 2, 3], np.diag([1, 1, np.inf]), [1], "the embedding of image 2 is not finite"),
    ],
)
def test_what_does_not_fit_is_refused(scores: list[float], embeddings: np.ndarray, k: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rscin(np.array(scores), embeddings, k)


def tile_table(*rows: tuple[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["sample_id", "embedding"])


def test_embedding_of_an_image_from_its_tiles() -> None:
    names, found = image_embeddings(
        tile_table(("b", [1.0, 0.0]), ("a", [0.3, 0.4]), ("b", [0.0, 1.0]), ("c", [3.0, 4.0]), ("c", [-3.0, -4.0]))
    )
    assert names == ["b", "a", "c"]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(found, [[half, half], [0.3, 0.4], [0, 0]], rtol=0, atol=1e-12)
    with pytest.raises(DataError, match="no column 'embedding'"):
        image_embeddings(pd.DataFrame({"sample_id": ["a"]}))
    with pytest.raises(DataError, match=r"vectors of \[1, 2\] numbers"):
        image_embeddings(tile_table(("a", [1.0]), ("b", [1.0, 2.0])))


def test_embeddings_are_joined_by_name_or_by_order(tmp_path: Path) -> None:
    tile_table(("b", [1.0, 0.0]), ("a", [0.0, 2.0])).to_parquet(tmp_path / "named.parquet")
    assert read_embeddings(tmp_path / "named.parquet", ["a", "b"]).tolist() == [[0, 2], [1, 0]]
    assert read_embeddings(tmp_path / "named.parquet", ["a"]).tolist() == [[0, 2]]
    assert read_embeddings(tmp_path / "named.parquet").tolist() == [[1, 0], [0, 2]]
    pd.DataFrame({"embedding": [[1.0], [2.0]]}).to_parquet(tmp_path / "plain.parquet")
    assert read_embeddings(tmp_path / "plain.parquet", ["a", "b"]).tolist() == [[1], [2]]
    np.save(tmp_path / "e.npy", np.eye(2, dtype=np.float16))
    assert read_embeddings(tmp_path / "e.npy", ["a", "b"]).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(DataError, match=r"named\.parquet: no embedding of 2 images. Missing:\n  x\n  y"):
        read_embeddings(tmp_path / "named.parquet", ["a", "x", "y"])
    with pytest.raises(DataError, match=r"e\.npy: 2 embeddings for 3 images"):
        read_embeddings(tmp_path / "e.npy", ["a", "b", "c"])
    np.save(tmp_path / "flat.npy", np.ones(4))
    with pytest.raises(DataError, match=r"flat\.npy: float64 of shape \(4,\); expected numbers of shape"):
        read_embeddings(tmp_path / "flat.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects\.npy: not a readable \.npy file"):
        read_embeddings(tmp_path / "objects.npy")
    pd.DataFrame({"vector": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"no column 'embedding'; found vector"):
        read_embeddings(tmp_path / "other.parquet")


SCORES = "sample_id,defect,score\n007,,1\n8e2,hole,2.50\nx,NA,4\n"


def test_anyones_table_is_rescored_and_otherwise_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores, embeddings = tmp_path / "scores.csv", tmp_path / "e.npy"
    scores.write_text(SCORES)
    np.save(embeddings, np.eye(3))
    assert main(["rescore", str(scores), str(embeddings), "--k", "1", "2"]) == 0
    # Of zeros on both sides the first is kept, and weighs nothing: all scores are the scaled ones.
    expected = "sample_id,defect,score,rescored\n007,,1,0.0\n8e2,hole,2.50,0.5\nx,NA,4,1.0\n"
    assert capsys.readouterr().out == expected
    assert main(["rescore", str(scores), str(embeddings), "--k", "1", "--out", str(tmp_path / "o" / "r.csv")]) == 0
    assert (tmp_path / "o" / "r.csv").read_text() == expected
    assert str(tmp_path / "o" / "r.csv") in capsys.readouterr().out


def test_tables_are_joined_by_sample_id(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(SCORES)
    rows = tile_table(("x", [0.0, 1.0]), ("8e2", [1.0, 0.0]), ("007", [1.0, 0.0]), ("more", [5.0, 5.0]))
    rows.to_parquet(tmp_path / "e.parquet")
    found = rescore_file(tmp_path / "scores.csv", tmp_path / "e.parquet", [2], tmp_path / "out.parquet")
    np.testing.assert_allclose(found["rescored"], [0.25, 0.25, 1], atol=1e-12)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), found)
    again = rescore_file(tmp_path / "out.parquet", tmp_path / "e.parquet", [1])
    assert list(again.columns) == ["sample_id", "defect", "score", "rescored"]
    np.testing.assert_allclose(again["rescored"], [0, 0.5, 1], atol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column 'score'; found a, b"),
        ("score\n1\nhigh\n3\n", "the score of row 2 is 'high'; expected a number"),
        ('score\n1\n""\n3\n', "the score of row 2 is ''; expected a number"),
        ("", "not a readable CSV"),
        ("score\n1\n2\n", r"e\.npy: 3 embeddings; .*scores\.csv has 2 scores"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "scores.csv").write_text(text)
    np.save(tmp_path / "e.npy", np.eye(3))
    with pytest.raises(DataError, match=message):
        rescore_file(tmp_path / "scores.csv", tmp_path / "e.npy", [1])
    assert main(["rescore", str(tmp_path / "scores.csv"), str(tmp_path / "e.npy")]) == 1
    assert capsys.readouterr().err.startswith("robis: ")


def test_absent_files_and_wrong_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text(SCORES)
    with pytest.raises(DataError, match=r"absent\.csv: not a readable CSV"):
        rescore_file(tmp_path / "absent.csv", tmp_path / "e.npy", [1])
    with pytest.raises(DataError, match=r"absent\.npy: not a readable \.npy"):
        rescore_file(tmp_path / "scores.csv", tmp_path / "absent.npy", [1])
    with pytest.raises(DataError, match=r"out\.txt: expected a name that ends in \.csv or \.parquet"):
        rescore_file(tmp_path / "scores.csv", tmp_path / "absent.npy", [1], tmp_path / "out.txt")


def test_no_torch_is_needed() -> None:
    code = "import robis.scoring.rscin, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "score,name\n1,a\n2,ü\n".encode("latin-1"),
            ", line 3: found the byte 0xfc, which is not UTF-8 ('ü' in Latin-1).",
        ),
        ("score\n1\n2\n".encode("utf-16"), ": found a file in UTF-16 or UTF-32; expected UTF-8."),
        (b"", ": not a readable CSV (No columns to parse from file)."),
    ],
)
def test_a_table_of_scores_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    scores = tmp_path / "scores.csv"
    scores.write_bytes(content)
    np.save(tmp_path / "e.npy", np.eye(2, dtype=np.float32))
    with pytest.raises(DataError, match=re.escape(f"{scores}{message}")):
        rescore_file(scores, tmp_path / "e.npy", [1])


def test_a_byte_order_mark_is_no_part_of_a_column_s_name(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_bytes("score\n1\n2\n".encode("utf-8-sig"))
    np.save(tmp_path / "e.npy", np.eye(2, dtype=np.float32))
    assert rescore_file(tmp_path / "scores.csv", tmp_path / "e.npy", [1])["score"].tolist() == ["1", "2"]
