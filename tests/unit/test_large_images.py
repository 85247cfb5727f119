"""Large images: read, cut and merged in parts, with the bytes of reading and merging whole."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from robis.errors import DataError
from robis.io import decoding, images
from robis.io.image_headers import EXIF_ORIENTATION
from robis.io.images import image_parts, read_image, read_mask, read_mask_content
from robis.io.samples import IndexedSample, write_samples
from robis.scoring import image_scores
from robis.tiles import merge
from robis.tiles.files import TileStore
from robis.tiles.store import Cutting, crop_split, open_tiles
from robis.tiles.windows import windows
from tests.unit.test_odd_images import LOSSLESS, LOSSY, Writer, by_opencv, by_pillow, by_tifffile

HEIGHT, WIDTH = 101, 67
_RNG = np.random.default_rng(11)
_SMOOTH = cv2.resize(_RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
RGB = (_SMOOTH // 2 + _RNG.integers(0, 99, _SMOOTH.shape)).astype(np.uint8)
DEEP = _RNG.integers(0, 4096, RGB.shape, dtype=np.uint16)
ALPHA = RGB[..., :1] // 2
WRITERS: dict[str, Writer] = {name: writer for name, (writer, _) in LOSSLESS.items()} | LOSSY
# Read in several parts of at most so many rows, with ten rows asked for; -1: whole.
ROWS: dict[str, tuple[Writer, int]] = {
    "rgb.png": (by_pillow(RGB), 10),
    "gray.png": (by_pillow(RGB[..., 0]), 10),
    "rgba.png": (by_pillow(np.dstack([RGB, ALPHA])), 10),
    "gray_alpha.png": (by_pillow(np.dstack([RGB[..., :1], ALPHA])), 10),
    "rgb_16.png": (by_opencv(DEEP), 10),
    "gray_16.png": (by_opencv(DEEP[..., 0]), 10),
    "palette.png": (by_pillow(Image.fromarray(RGB).quantize(16)), -1),
    "rgb.jpg": (by_pillow(RGB), -1),
    "lzw.tif": (by_pillow(RGB, compression="tiff_lzw", strip_size=WIDTH * 3 * 8), 8),
    "jpeg.tif": (by_pillow(RGB, compression="jpeg", strip_size=WIDTH * 3 * 8), 8),
    "packbits.tif": (by_pillow(RGB, compression="packbits", strip_size=WIDTH * 3 * 8), 8),
    "one_strip.tif": (by_tifffile(RGB, photometric="rgb"), 10),
    "strips.tif": (by_tifffile(RGB, photometric="rgb", rowsperstrip=7), 10),
    "white_is_zero.tif": (by_tifffile(RGB[..., 0].copy(), photometric="miniswhite", rowsperstrip=7), 10),
    "white_is_zero_16.tif": (by_tifffile(DEEP[..., 0].copy(), photometric="miniswhite", rowsperstrip=7), 10),
    "big_endian_16.tif": (by_tifffile(DEEP, photometric="rgb", byteorder=">", rowsperstrip=7), 10),
    "big.tif": (by_tifffile(RGB, photometric="rgb", bigtiff=True, tile=(16, 32)), 16),
    "predicted.tif": (by_tifffile(RGB, photometric="rgb", compression="zlib", predictor=2, rowsperstrip=7), 7),
    "predicted_16.tif": (by_tifffile(DEEP, photometric="rgb", compression="zlib", predictor=2, tile=(16, 32)), 16),
    "rgba.tif": (
        by_tifffile(np.dstack([RGB, ALPHA]), photometric="rgb", extrasamples=["unassalpha"], tile=(16, 32)),
        16,
    ),
    "planes.tif": (by_tifffile(RGB.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"), -1),
}


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Read every image in parts of about so many pixels."""

    def read(pixels: int) -> None:
        monkeypatch.setattr(decoding, "LARGE_PIXELS", 0)
        monkeypatch.setattr(decoding, "LARGE_PNG_PIXELS", 0)
        monkeypatch.setattr(decoding, "PART_PIXELS", pixels)

    return read


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_format_has_the_same_pixels_in_parts(tmp_path: Path, name: str, in_parts: Callable) -> None:
    WRITERS[name](tmp_path / name)
    whole = read_image(tmp_path / name)
    mask, content = read_mask(tmp_path / name), read_mask_content(tmp_path / name)
    for pixels in (1, 100, 10_000):
        in_parts(pixels)
        np.testing.assert_array_equal(read_image(tmp_path / name), whole)
        np.testing.assert_array_equal(read_mask(tmp_path / name), mask)
        again = read_mask_content(tmp_path / name)
        assert (again.levels, again.lossy) == (content.levels, content.lossy)


@pytest.mark.parametrize("name", list(ROWS))
@pytest.mark.parametrize("bit_depth", [None, 12])
def test_parts_hold_a_few_rows_each(tmp_path: Path, name: str, bit_depth: int | None, in_parts: Callable) -> None:
    write, rows = ROWS[name]
    write(tmp_path / name)
    whole = read_image(tmp_path / name, bit_depth=bit_depth)
    in_parts(10 * WIDTH)
    (height, width), parts = image_parts(tmp_path / name, bit_depth=bit_depth)
    found = list(parts)
    assert (height, width) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert max(map(len, found)) == (HEIGHT if rows < 0 else rows)


@pytest.mark.parametrize("name", ["turned.tif", "turned.png", "turned.jpg"])
def test_turned_images_are_read_whole(tmp_path: Path, name: str, in_parts: Callable) -> None:
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[EXIF_ORIENTATION] = orientation
        Image.fromarray(RGB).save(tmp_path / name, exif=exif)
        whole = read_image(tmp_path / name)
        in_parts(10 * WIDTH)
        (height, width), parts = image_parts(tmp_path / name)
        found = list(parts)
        assert (height, width) == whole.shape[:2]
        assert len(found) == 1 or (orientation == 1 and name != "turned.jpg")
        np.testing.assert_array_equal(np.concatenate(found), whole)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_smaller_copy_does_not_say_how_the_image_is_turned(
    tmp_path: Path, orientation: int, in_parts: Callable
) -> None:
    turned = [(EXIF_ORIENTATION, "H", 1, orientation, True)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(RGB, photometric="rgb", rowsperstrip=7, extratags=turned)
        file.write(RGB[::4, ::4].copy(), photometric="rgb", subfiletype=1)
    in_parts(10 * WIDTH)
    expected = RGB[::-1, ::-1] if orientation == 3 else np.rot90(RGB, -1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("name", ["rgb.png", "gray_16.png", "rgb.jpg", "lzw.tif", "strips.tif", "predicted_16.tif"])
def test_damaged_files_end_as_if_they_were_read_whole(
    tmp_path: Path, name: str, in_parts: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    ROWS[name][0](path)
    data = path.read_bytes()
    damaged = [data[:size] for size in (len(data) // 3, len(data) // 2, len(data) - 300)]
    for place in _RNG.integers(len(data) // 4, 3 * len(data) // 4, 8):
        damaged.append(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
    if name.endswith(".png"):
        damaged += [data[:-size] for size in (1, 12, 16, 20)]

    def outcome() -> object:
        try:
            return read_image(path).tolist()
        except DataError as error:
            return str(error)

    for content in damaged:
        path.write_bytes(content)
        with monkeypatch.context() as whole:
            whole.setattr(decoding, "LARGE_PIXELS", 2**30)
            whole.setattr(decoding, "LARGE_PNG_PIXELS", 2**30)
            expected = outcome()
        in_parts(10 * WIDTH)
        assert outcome() == expected


@pytest.mark.parametrize("edge", ["pad", "shift"])
@pytest.mark.parametrize("window", [32, 30, "image", "joined"])
@pytest.mark.parametrize("name", ["rgb.png", "rgb_16.png", "lzw.tif", "strips.tif", "predicted_16.tif", "big.tif"])
def test_tiles_are_the_same(tmp_path: Path, name: str, window: int | str, edge: str, in_parts: Callable) -> None:
    ROWS[name][0](tmp_path / name)
    ignored = np.zeros((HEIGHT, WIDTH), bool)
    ignored[:20, :9] = True
    rows = [
        IndexedSample(sample_id, "test", name, None, None, None, HEIGHT, WIDTH, None, region)
        for sample_id, region in (("a", None), ("b", images_png(ignored)))
    ]
    write_samples(tmp_path / "samples.parquet", rows)
    cutting = Cutting(window, 0.3, edge, None if window == "joined" else 32, bit_depth=12)

    def tiles(folder: str) -> bytes:
        store = TileStore(tmp_path / folder / "tiles.npy", tmp_path / folder / "tiles.parquet")
        crop_split(tmp_path / "samples.parquet", tmp_path, store, cutting)
        return np.asarray(open_tiles(store.tiles, store.table)[0]).tobytes()

    whole = tiles("whole")
    in_parts(10 * WIDTH)
    assert tiles("parts") == whole


def images_png(ignored: np.ndarray) -> bytes:
    return cv2.imencode(".png", ignored.view(np.uint8) * np.uint8(255))[1].tobytes()


@pytest.mark.parametrize("name", ["rgb.png", "lzw.tif", "one_strip.tif"])
def test_cutting_holds_the_rows_of_one_window(
    tmp_path: Path, name: str, in_parts: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    ROWS[name][0](tmp_path / name)
    in_parts(10 * WIDTH)
    monkeypatch.setattr(decoding, "_decode", lambda *_: pytest.fail("the image was read whole"))
    held = []

    def tile(cutting: Cutting, image: np.ndarray, window: object) -> np.ndarray:
        held.append(len(image))
        return image

    monkeypatch.setattr(Cutting, "tile", tile)
    cutting = Cutting(16, 0.25, "pad", 16)
    found = list(cutting.tiles(image_parts(tmp_path / name)[1], cutting.windows(HEIGHT, WIDTH)))
    assert len(found) == len(cutting.windows(HEIGHT, WIDTH))
    assert max(held) < 16 + 10


def test_a_large_jpeg_is_decoded_from_its_file_unless_it_is_cut_short(
    tmp_path: Path, in_parts: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.jpg"
    by_pillow(RGB)(path)
    whole = read_image(path)
    in_parts(1)
    with monkeypatch.context() as of_file:
        of_file.setattr(decoding, "_decode_data", lambda *_: pytest.fail("the file was read into memory"))
        np.testing.assert_array_equal(read_image(path), whole)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cut short or damaged"):
        read_image(path)


@pytest.mark.parametrize("blend", ["mean", "feather", "central"])
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.3])
def test_bands_merge_to_the_same_map(blend: str, scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(each.x, each.y, each.width, each.height) for each in windows(HEIGHT, WIDTH, 24, 0.3, "pad")]
    side = round(24 * scale)
    maps = _RNG.normal(size=(len(found), side, side)).astype(np.float16)
    options = {"scale": scale, "blend": blend}
    whole = merge.merge_tiles(maps, found, HEIGHT, WIDTH, **options)
    scaled = merge.merged_map(list(maps), found, (HEIGHT, WIDTH), merge.Scaling(-1.5, 40.0), **options)
    expected = np.clip((whole - np.float32(-1.5)) * np.float32(40), 0, 65504).astype(np.float16)
    np.testing.assert_array_equal(scaled, expected)
    for pixels in (1, 5 * WIDTH):
        monkeypatch.setattr(merge, "BAND_PIXELS", pixels)
        assert merge.merge_tiles(maps, found, HEIGHT, WIDTH, **options).tobytes() == whole.tobytes()
        again = merge.merged_map(list(maps), found, (HEIGHT, WIDTH), merge.Scaling(-1.5, 40.0), **options)
        assert again.tobytes() == scaled.tobytes()


def test_a_large_map_is_merged_in_memory_for_itself_and_a_band(monkeypatch: pytest.MonkeyPatch) -> None:
    side = 2000
    found = [(each.x, each.y, each.width, each.height) for each in windows(side, side, 250, 0.0, "pad")]
    maps = list(np.zeros((len(found), 250, 250), np.float16))
    monkeypatch.setattr(merge, "BAND_PIXELS", 100 * side)
    tracemalloc.start()
    merge.merged_map(maps, found, (side, side), merge.Scaling(0.0, 1.0), scale=1.0, blend="mean")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 2 bytes per pixel of the map; in float32, with weights and temporary arrays, it took 12.
    assert peak < 4 * side**2


@pytest.mark.parametrize("top_fraction", [0.0, 0.001, 0.01, 0.4, 1.0])
def test_counted_scores_are_those_of_sorted_pixels(top_fraction: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored = _RNG.random((HEIGHT, WIDTH)) < 0.2
    for values in (_RNG.random((HEIGHT, WIDTH)) * 255, np.round(_RNG.random((HEIGHT, WIDTH)) * 3)):
        anomaly_map = values.astype(np.float16)
        for region in (None, ignored):
            with monkeypatch.context() as counted:
                counted.setattr(image_scores, "LARGE_PIXELS", 0)
                score = image_scores.image_score(anomaly_map, top_fraction, region)
            assert score == image_scores.image_score(anomaly_map, top_fraction, region)


def test_values_above_white_are_named_from_the_whole_file(tmp_path: Path, in_parts: Callable) -> None:
    pixels = np.full((30, 20), 100, np.uint16)
    pixels[0, 0], pixels[29, 19] = 5000, 9000
    tifffile.imwrite(tmp_path / "deep.tif", pixels, rowsperstrip=2)
    in_parts(40)
    with pytest.raises(DataError, match="its highest value is 9000"):
        read_image(tmp_path / "deep.tif", bit_depth=12)
    assert images.highest_value(tmp_path / "deep.tif") == 9000
