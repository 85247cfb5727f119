"""RsCIN (MuSc, arXiv 2401.16753, section 3.4): image scores smoothed over similar images.

Works with the image scores of any detector and with any image embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robis.errors import DataError, first_few
from robis.io.arrays import open_array
from robis.io.atomic import atomic_file
from robis.io.damage import damaged
from robis.io.tables import read_table
from robis.io.text import EncodingError, decoded

if TYPE_CHECKING:
    import pandas as pd

# Values of the Gram matrix in memory at a time.
SIMILARITIES_AT_ONCE = 1 << 21


def rscin(scores: np.ndarray, embeddings: np.ndarray, k: Sequence[int]) -> np.ndarray:
    """Re-score images with constrained image-level neighborhood.

    Scores are min-max scaled to 0..1. With W the Gram matrix of the embeddings, for each k every row of W keeps its
    k largest entries, is divided by their sum and applied to the scores; the result is the mean over k.

    As published, embeddings are not normalized: CLIP gives unit vectors, so that an image is always its nearest
    neighbor, while DINO's class tokens have different lengths. Similarities are compared as float32, so that copies of
    an image tie on every machine; among equals the image itself comes first, then the lower index. Where the kept
    entries cancel out, the image keeps its scaled score.

    Args:
        scores: (N,) image scores.
        embeddings: (N, D) image embeddings.
        k: sizes of the neighborhood, including the image itself; 1 to N each.

    Returns:
        float64 (N,). Constant scores are returned unchanged.

    Raises:
        DataError: the number of embeddings is not that of the scores, a value is not finite, or a k is out of range.
    """
    scores, embeddings = _checked(scores, embeddings, k)
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 0.0)
    if low == high:
        return scores
    scaled = (scores - low) / (high - low)
    total = np.zeros_like(scaled)
    for rows, similarities in _gram(embeddings):
        compared = similarities.astype(np.float32)
        itself = (np.arange(len(compared)), np.arange(len(scores))[rows])
        compared[itself] = np.nextafter(compared[itself], np.float32(np.inf))
        for size in k:
            kept = np.where(_largest(compared, size), similarities, 0)
            sums = kept.sum(axis=1)
            stays = np.abs(sums) <= 1e-12 * np.abs(kept).sum(axis=1)
            total[rows] += np.where(stays, scaled[rows], kept @ scaled / np.where(stays, 1, sums))
    return total / len(k)


def _checked(scores: np.ndarray, embeddings: np.ndarray, k: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    scores, embeddings = np.array(scores, np.float64), np.asarray(embeddings, np.float64)
    if scores.ndim != 1 or embeddings.ndim != 2 or len(scores) != len(embeddings):
        raise DataError(
            f"rescore: scores are {scores.shape}, embeddings {embeddings.shape}; expected (N,) and (N, D), "
            f"one embedding per score."
        )
    for name, finite in (("score", np.isfinite(scores)), ("embedding", np.isfinite(embeddings).all(axis=1))):
        if not finite.all():
            raise DataError(f"rescore: the {name} of image {int(np.argmin(finite))} is not finite; expected numbers.")
    wrong = [size for size in k if not 1 <= size <= len(scores)]
    if len(scores) and (wrong or not len(k)):
        given = f"found {wrong[0]} for N = {len(scores)} images" if wrong else "found none"
        raise DataError(
            f"rescore.neighborhood_sizes: {given}; expected numbers from 1 to N, the image itself included."
        )
    return scores, embeddings


def _gram(embeddings: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of the Gram matrix, which for 10,000 images would take 800 MB."""
    step = max(1, SIMILARITIES_AT_ONCE // len(embeddings))
    for start in range(0, len(embeddings), step):
        rows = slice(start, min(start + step, len(embeddings)))
        yield rows, embeddings[rows] @ embeddings.T


def _largest(values: np.ndarray, k: int) -> np.ndarray:
    """Which entries are the k largest of their row, the first ones among equals."""
    border = np.partition(values, values.shape[1] - k, axis=1)[:, -k, None]
    largest = values >= border
    crowded = np.flatnonzero(largest.sum(axis=1) > k)
    above, equal = values[crowded] > border[crowded], values[crowded] == border[crowded]
    largest[crowded] = above | (equal & (np.cumsum(equal, axis=1) <= k - above.sum(axis=1, keepdims=True)))
    return largest


def image_embeddings(table: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """One embedding per image from a table with one row per tile.

    Its direction is that of the mean of the tiles' embeddings, its length the mean of their lengths. Unit vectors give
    unit vectors, and an image of a single tile keeps its embedding.

    Args:
        table: columns `sample_id` and `embedding`, a list of numbers.

    Returns:
        The sample_ids, in the order of their first tiles, and float64 (images, D).

    Raises:
        DataError: a column is missing, or embeddings differ in length.
    """
    missing = [name for name in ("sample_id", "embedding") if name not in table]
    if missing:
        raise DataError(f"embeddings: no column {missing[0]!r}; expected 'sample_id' and 'embedding'.")
    tiles = _stacked(table["embedding"])
    images, names = table["sample_id"].astype(str).factorize()
    sums = np.zeros((len(names), tiles.shape[1]))
    lengths = np.zeros(len(names))
    np.add.at(sums, images, tiles)
    np.add.at(lengths, images, np.linalg.norm(tiles, axis=1))
    sizes = np.linalg.norm(sums, axis=1)
    mean_lengths = lengths / np.bincount(images, minlength=len(names))
    return list(names), sums * (mean_lengths / np.where(sizes > 0, sizes, 1))[:, None]


def read_embeddings(file: Path, names: Sequence[str] | None = None, *, stage: str | None = None) -> np.ndarray:
    """Read one embedding per image.

    Args:
        file: .npy (N, D), in the order of the images, or Parquet with a column `embedding`: with `sample_id`, of one or
            more tiles per image (see `image_embeddings`), else in the order of the images.
        names: sample_ids of the images; None leaves the order to the file.
        stage: rule that writes the file, for messages; None for one that robis did not make.

    Returns:
        float64 (N, D), in the order of `names`.

    Raises:
        DataError: an unreadable file, or one that lacks an image.
    """
    if file.suffix == ".npy":
        vectors: np.ndarray = open_array(file, stage=stage)
        if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
            kind = f"{vectors.dtype} of shape {vectors.shape}"
            raise damaged(file, f"{kind}; expected numbers of shape (images, D)", stage)
    else:
        columns = {"embedding": "anything"} | ({"sample_id": "text"} if stage else {})
        table = read_table(file, stage=stage, columns=columns)
        if "sample_id" in table and names is not None:
            present, vectors = image_embeddings(table)
            return vectors[_places(present, names, file)]
        vectors = _stacked(table["embedding"])
    if names is not None and len(vectors) != len(names):
        raise DataError(f"{file}: {len(vectors)} embeddings for {len(names)} images; expected one for each, in order.")
    return np.array(vectors, np.float64)


def rescore_file(scores: Path, embeddings: Path, k: Sequence[int], out: Path | None = None) -> pd.DataFrame:
    """Re-score a table of image scores with image embeddings, of whatever origin.

    They are matched by `sample_id` where both have it, otherwise by order.

    Args:
        scores: CSV, or Parquet, with a column `score`; its other columns are kept as they are.
        embeddings: see `read_embeddings`.
        k: sizes of the neighborhood, see `rscin`.
        out: .csv or .parquet to write; None writes nothing.

    Returns:
        The table with a column `rescored`.

    Raises:
        DataError: an unreadable file, or files that do not fit together.
    """
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise DataError(f"{out}: expected a name that ends in .csv or .parquet.")
    table = _read_scores(scores)
    names = table["sample_id"].astype(str).tolist() if "sample_id" in table else None
    vectors = read_embeddings(embeddings, names)
    if len(vectors) != len(table):
        raise DataError(f"{embeddings}: {len(vectors)} embeddings; {scores} has {len(table)} scores. Expected as many.")
    table["rescored"] = rscin(_numbers(table["score"], scores), vectors, k)
    if out is not None:
        with atomic_file(out) as partial:
            table.to_parquet(partial, index=False) if out.suffix == ".parquet" else table.to_csv(partial, index=False)
    return table


def _read_scores(file: Path) -> pd.DataFrame:
    import pandas as pd

    if file.suffix == ".parquet":
        table = read_table(file)
    else:
        try:
            # As text, so that a sample_id such as 007 is kept.
            table = pd.read_csv(StringIO(decoded(file.read_bytes())), dtype="str", keep_default_na=False)
        except EncodingError as error:
            raise DataError(error.at(file)) from error
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: not a readable CSV ({error}).") from error
    if "score" not in table:
        raise DataError(f"{file}: no column 'score'; found {', '.join(map(str, table.columns))}.")
    return table


def _numbers(column: pd.Series, file: Path) -> np.ndarray:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise DataError(f"{file}: the score of row {row + 1} is {column.iloc[row]!r}; expected a number.")
    return values


def _places(present: Sequence[str], names: Sequence[str], file: Path) -> list[int]:
    place = {name: n for n, name in enumerate(present)}
    missing = [name for name in names if name not in place]
    if missing:
        raise DataError(f"{file}: no embedding of {len(missing)} images. Missing:\n{first_few(missing)}")
    return [place[name] for name in names]


def _stacked(column: pd.Series) -> np.ndarray:
    lengths = {np.size(value) for value in column}
    if len(lengths) > 1:
        raise DataError(f"embeddings: vectors of {sorted(lengths)} numbers; expected all of one length.")
    try:
        return np.array(column.tolist(), np.float64).reshape(len(column), -1 if len(column) else 0)
    except (TypeError, ValueError) as error:
        raise DataError(f"embeddings: {column.iloc[0]!r} in the first row; expected a list of numbers.") from error
