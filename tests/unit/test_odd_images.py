"""Every kind of image and mask file that people have, compared with the pixels that went in or with Pillow."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image, ImageFile, ImageOps

from robis.errors import DataError
from robis.io.image_headers import EXIF_ORIENTATION
from robis.io.images import image_size, read_image, read_mask
from robis.io.samples import read_samples
from robis.tiles.files import TileStore
from robis.tiles.store import Cutting, crop_split, open_tiles
from tests.unit.trees import index, write_image

HEIGHT, WIDTH = 20, 30
_RNG = np.random.default_rng(7)
RGB = cv2.resize(_RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
GRAY = RGB[..., 0].copy()
ALPHA = _RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
RGBA, LA = np.dstack([RGB, ALPHA]), np.dstack([GRAY, ALPHA])
BINARY = GRAY > 128
GRAY_RGB = np.dstack([GRAY] * 3)
PALETTE = Image.fromarray(RGB).quantize(16)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))
DEEP = _RNG.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
# The nearest 8-bit value of each 16-bit one, by floating point.
DEEP_RGB = np.rint(DEEP / 257).astype(np.uint8)
CMYK = Image.fromarray(RGB).convert("CMYK")

Writer = Callable[[Path], object]


def by_pillow(pixels: np.ndarray | Image.Image, **options) -> Writer:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return lambda path: image.save(path, **options)


def by_tifffile(pixels: np.ndarray, **options) -> Writer:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def by_opencv(pixels: np.ndarray) -> Writer:
    return lambda path: cv2.imwrite(str(path), pixels)


def by_netpbm(kind: str, highest: int, pixels: np.ndarray) -> Writer:
    """The format as its manual describes it: a header in text, numbers in text or big-endian bytes."""
    header = f"{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{highest}\n".encode()
    data = pixels.astype(">u2" if highest > 255 else np.uint8).tobytes()
    if kind == "P2":
        data = " ".join(map(str, pixels.ravel())).encode()
    return lambda path: path.write_bytes(header + data)


def by_hand(bits: int, compression: int = 1) -> Writer:
    """A gray TIFF whose values follow each other without gaps, as cameras of 12 bits pack them; 8: deflated."""
    levels = DEEP[..., 0] >> 16 - bits
    numbers = [f"{value:0{bits}b}" for value in levels.ravel()]
    data = int("".join(numbers), 2).to_bytes(len(numbers) * bits // 8, "big")
    data = data if compression == 1 else zlib.compress(data)
    tags = (
        (256, WIDTH),
        (257, HEIGHT),
        (258, bits),
        (259, compression),
        (262, 1),
        (273, 8),
        (277, 1),
        (279, len(data)),
    )
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    header = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return lambda path: path.write_bytes(header + data + struct.pack("<H", len(tags)) + entries + bytes(4))


def by_5_bits(path: Path) -> None:
    """A BMP of 5 bits per channel: a row is 60 bytes, the lowest comes first."""
    red, green, blue = (FIVE_BITS[::-1, :, channel].astype("<u2") for channel in range(3))
    data = (red << 10 | green << 5 | blue).tobytes()
    header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + len(data), 0, 54, 40, WIDTH, HEIGHT, 1, 16, 0, len(data),
                         0, 0, 0, 0)  # fmt: skip
    path.write_bytes(header + data)


FIVE_BITS = RGB >> 3

LOSSLESS: dict[str, tuple[Writer, np.ndarray]] = {
    "gray.png": (by_pillow(GRAY), GRAY_RGB),
    "rgb.png": (by_pillow(RGB), RGB),
    "UPPER.PNG": (lambda path: Image.fromarray(RGB).save(path, "PNG"), RGB),
    "grün 1.png": (by_pillow(RGB), RGB),
    "gray_alpha.png": (by_pillow(LA), GRAY_RGB),
    "rgba.png": (by_pillow(RGBA), RGB),
    "palette.png": (by_pillow(PALETTE), PALETTE_RGB),
    "palette_transparent_index.png": (by_pillow(PALETTE, transparency=3), PALETTE_RGB),
    "palette_alpha.png": (by_pillow(PALETTE, transparency=bytes(range(0, 256, 16))), PALETTE_RGB),
    "transparent_color.png": (by_pillow(RGB, transparency=tuple(int(v) for v in RGB[0, 0])), RGB),
    "bits.png": (by_pillow(BINARY), np.dstack([BINARY * np.uint8(255)] * 3)),
    "gray_16.png": (by_opencv(DEEP[..., 0]), np.dstack([DEEP_RGB[..., 0]] * 3)),
    "rgb_16.png": (by_opencv(DEEP[..., ::-1]), DEEP_RGB),
    "rgba_16.png": (by_opencv(np.dstack([DEEP[..., ::-1], DEEP[..., 0]])), DEEP_RGB),
    "gray.bmp": (by_pillow(GRAY), GRAY_RGB),
    "rgb.bmp": (by_pillow(RGB), RGB),
    "rgba.bmp": (by_pillow(RGBA), RGB),
    "palette.bmp": (by_pillow(PALETTE), PALETTE_RGB),
    "bits.bmp": (by_pillow(BINARY), np.dstack([BINARY * np.uint8(255)] * 3)),
    "cmyk.tif": (by_pillow(CMYK), np.asarray(CMYK.convert("RGB"))),
    "white_is_zero.tif": (by_tifffile(GRAY, photometric="miniswhite"), 255 - GRAY_RGB),
    "white_is_zero_16.tif": (
        by_tifffile(DEEP[..., 0].copy(), photometric="miniswhite"),
        np.dstack([255 - DEEP_RGB[..., 0]] * 3),
    ),
    "gray_16.tif": (by_tifffile(DEEP[..., 0].copy()), np.dstack([DEEP_RGB[..., 0]] * 3)),
    "gray_16_deflate_big_endian.tif": (
        by_tifffile(DEEP[..., 0].copy(), compression="deflate", byteorder=">"),
        np.dstack([DEEP_RGB[..., 0]] * 3),
    ),
    "rgb_16.tiff": (by_tifffile(DEEP, photometric="rgb"), DEEP_RGB),
    "rgba_16.tiff": (
        by_tifffile(np.dstack([DEEP, DEEP[..., 0]]), photometric="rgb", extrasamples=["unassalpha"]),
        DEEP_RGB,
    ),
    "tiles_of_16.tif": (by_tifffile(RGB, photometric="rgb", tile=(16, 16)), RGB),
    "deflated_tiles_of_16.tif": (by_tifffile(RGB, photometric="rgb", tile=(16, 16), compression="deflate"), RGB),
    "planes.tif": (
        by_tifffile(RGB.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
        RGB,
    ),
    "big.tif": (by_tifffile(RGB, photometric="rgb", bigtiff=True), RGB),
    "packed_12.tif": (by_hand(12), np.dstack([np.rint((DEEP[..., 0] >> 4) / 4095 * 255).astype(np.uint8)] * 3)),
    "deflated_12.tif": (by_hand(12, 8), np.dstack([np.rint((DEEP[..., 0] >> 4) / 4095 * 255).astype(np.uint8)] * 3)),
    "deflated_4.tif": (by_hand(4, 8), np.dstack([(DEEP[..., 0] >> 12).astype(np.uint8) * 17] * 3)),
    "associated_alpha.tif": (
        by_tifffile(
            np.dstack([GRAY, np.full_like(GRAY, 255)]),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=["assocalpha"],
        ),
        GRAY_RGB,
    ),
    # Pillow rounds down.
    "large_profile.png": (by_pillow(RGB, icc_profile=bytes(3 << 20)), RGB),
    "five_bits.bmp": (by_5_bits, (FIVE_BITS.astype(np.uint16) * 255 // 31).astype(np.uint8)),
    "rgb.webp": (by_pillow(RGB, lossless=True), RGB),
    "gray.webp": (by_pillow(GRAY, lossless=True), GRAY_RGB),
    "rgba.WEBP": (lambda path: Image.fromarray(RGBA).save(path, "WEBP", lossless=True, exact=True), RGB),
    "rgb.dib": (by_pillow(RGB), RGB),
    "rgb.ppm": (by_pillow(RGB), RGB),
    "gray.pgm": (by_pillow(GRAY), GRAY_RGB),
    "bits.pbm": (by_pillow(BINARY), np.dstack([BINARY * np.uint8(255)] * 3)),
    "any.pnm": (lambda path: Image.fromarray(RGB).save(path, "PPM"), RGB),
    "text.pgm": (by_netpbm("P2", 255, GRAY), GRAY_RGB),
    "gray_16.pgm": (by_netpbm("P5", 65535, DEEP[..., 0]), np.dstack([DEEP_RGB[..., 0]] * 3)),
    "rgb_16.ppm": (by_netpbm("P6", 65535, DEEP), DEEP_RGB),
    # A PNM says what its highest value is: that of 12 bits is white, too.
    "gray_12.pgm": (
        by_netpbm("P5", 4095, DEEP[..., 0] >> 4),
        np.dstack([np.rint((DEEP[..., 0] >> 4) / 4095 * 255).astype(np.uint8)] * 3),
    ),
}


def is_written(compression: str) -> bool:
    """Whether this build of Pillow, or rather of its libtiff, has a compression."""
    try:
        Image.fromarray(GRAY).save(io.BytesIO(), "TIFF", compression=compression)
    except (OSError, RuntimeError):
        return False
    return True


for _compression in filter(is_written, ("zstd", "lzma")):
    LOSSLESS[f"rgb_{_compression}.tif"] = (by_pillow(RGB, compression=_compression), RGB)
for _name, (_pixels, _expected) in {
    "gray": (GRAY, GRAY_RGB),
    "gray_alpha": (LA, GRAY_RGB),
    "rgb": (RGB, RGB),
    "rgba": (RGBA, RGB),
    "palette": (PALETTE, PALETTE_RGB),
    "bits": (BINARY, np.dstack([BINARY * np.uint8(255)] * 3)),
}.items():
    for _compression in (None, "tiff_lzw", "tiff_deflate"):
        LOSSLESS[f"{_name}_{_compression}.tif"] = (by_pillow(_pixels, compression=_compression), _expected)

LOSSY = {
    "gray.jpg": by_pillow(GRAY),
    "rgb.JPEG": lambda path: Image.fromarray(RGB).save(path, "JPEG"),
    "progressive.jpg": by_pillow(RGB, progressive=True),
    "cmyk.jpg": by_pillow(CMYK, quality=95),
    "jpeg.tif": by_pillow(RGB, compression="jpeg"),
    "rgb.jpe": lambda path: Image.fromarray(RGB).save(path, "JPEG"),
    "rgb.jfif": lambda path: Image.fromarray(RGB).save(path, "JPEG"),
    "lossy.webp": by_pillow(RGB, quality=95),
}


@pytest.mark.parametrize("name", list(LOSSLESS))
def test_lossless_images_become_the_pixels_that_went_in(tmp_path: Path, name: str) -> None:
    write, expected = LOSSLESS[name]
    write(tmp_path / name)
    found = read_image(tmp_path / name)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8
    assert image_size(tmp_path / name) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", list(LOSSY))
def test_jpegs_become_what_pillow_shows(tmp_path: Path, name: str) -> None:
    LOSSY[name](tmp_path / name)
    with Image.open(tmp_path / name) as image:
        expected = np.asarray(image.convert("RGB"))
    # Two decoders may round differently.
    np.testing.assert_allclose(read_image(tmp_path / name).astype(int), expected, atol=1)
    assert np.abs(expected.astype(int) - (GRAY_RGB if "gray" in name else RGB)).mean() < 12, "not inverted"


def shown(stored: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF's table: which side of the scene row 0 and column 0 of the stored pixels are."""
    turned = stored.swapaxes(0, 1) if orientation >= 5 else stored
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return turned[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[EXIF_ORIENTATION] = orientation
    return data


ORIENTED = {
    "rgb.png": (lambda o: by_pillow(RGB, exif=exif(o)), RGB),
    "gray.png": (lambda o: by_pillow(GRAY, exif=exif(o)), GRAY_RGB),
    "rgb.webp": (lambda o: by_pillow(RGB, exif=exif(o), lossless=True), RGB),
    "rgb_16.tif": (
        lambda o: by_tifffile(DEEP, photometric="rgb", extratags=[(EXIF_ORIENTATION, "H", 1, o, True)]),
        DEEP_RGB,
    ),
    "gray_16.tif": (
        lambda o: by_tifffile(DEEP[..., 0].copy(), extratags=[(EXIF_ORIENTATION, "H", 1, o, True)]),
        np.dstack([DEEP_RGB[..., 0]] * 3),
    ),
}
for _name, (_pixels, _expected) in {
    "rgb": (RGB, RGB),
    "rgba": (RGBA, RGB),
    "gray": (GRAY, GRAY_RGB),
    "palette": (PALETTE, PALETTE_RGB),
}.items():
    for _compression in (None, "tiff_lzw"):
        ORIENTED[f"{_name}_{_compression}.tif"] = (
            lambda o, p=_pixels, c=_compression: by_pillow(p, compression=c, tiffinfo={EXIF_ORIENTATION: o}),
            _expected,
        )


@pytest.mark.parametrize("name", list(ORIENTED))
def test_all_eight_orientations_are_read_as_they_are_shown(tmp_path: Path, name: str) -> None:
    write, stored = ORIENTED[name]
    for orientation in range(1, 9):
        write(orientation)(tmp_path / name)
        expected = shown(stored, orientation)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected, str(orientation))
        assert image_size(tmp_path / name) == expected.shape[:2]


@pytest.mark.parametrize("pixels", [Image.fromarray(RGB), Image.fromarray(GRAY), CMYK], ids=["rgb", "gray", "cmyk"])
def test_turned_jpegs_become_what_pillow_shows(tmp_path: Path, pixels: Image.Image) -> None:
    for orientation in range(1, 9):
        pixels.save(tmp_path / "a.jpg", exif=exif(orientation), quality=95)
        with Image.open(tmp_path / "a.jpg") as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        np.testing.assert_allclose(read_image(tmp_path / "a.jpg").astype(int), expected, atol=1)
        assert image_size(tmp_path / "a.jpg") == expected.shape[:2]


def test_a_photograph_with_a_second_picture_in_its_file_is_the_first(tmp_path: Path) -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[second])
    with Image.open(tmp_path / "phone.jpg") as image:
        assert image.n_frames == 2
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(read_image(tmp_path / "phone.jpg").astype(int), expected, atol=1)
    assert image_size(tmp_path / "phone.jpg") == (HEIGHT, WIDTH)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_what_exif_says_wrongly_is_passed_over(tmp_path: Path) -> None:
    for name, data in (("value.jpg", exif(9)), ("damaged.jpg", b"Exif\0\0MM\0*\0\0\0\x08\0\xff")):
        Image.fromarray(RGB).save(tmp_path / name, exif=data)
        assert image_size(tmp_path / name) == read_image(tmp_path / name).shape[:2] == (HEIGHT, WIDTH)


MARKED = np.zeros((HEIGHT, WIDTH), bool)
MARKED[3:8, 5:17] = True
VALUES = np.where(MARKED, _RNG.integers(1, 256, MARKED.shape), 0).astype(np.uint8)
FEW = MARKED * np.uint8(1)


def palette_mask(colors: list[int]) -> Image.Image:
    image = Image.fromarray(FEW).convert("P")
    image.putpalette(colors)
    return image


MASKS: dict[str, Writer] = {
    "0_255.png": by_pillow(MARKED * np.uint8(255)),
    "one.png": by_pillow(FEW),
    "classes.png": by_pillow(VALUES),
    "bits.png": by_pillow(MARKED),
    "bits.bmp": by_pillow(MARKED),
    "bits.tif": by_pillow(MARKED, compression="group4"),
    "one_16.png": by_opencv(FEW.astype(np.uint16)),
    "one_16.tif": by_tifffile(FEW.astype(np.uint16)),
    "blue_only.png": by_pillow(np.dstack([0 * FEW, 0 * FEW, FEW])),
    "rgba.png": by_pillow(np.dstack([*[MARKED * np.uint8(200)] * 3, ALPHA | 1])),
    "rgba.tif": by_pillow(np.dstack([*[FEW] * 3, np.full_like(FEW, 255)])),
    "opaque_and_clear.png": by_pillow(np.dstack([*[VALUES] * 3, 255 - VALUES])),
    "gray_alpha.png": by_pillow(np.dstack([VALUES, np.full_like(VALUES, 255)])),
    "gray_alpha.tif": by_pillow(np.dstack([VALUES, np.full_like(VALUES, 255)])),
    "palette.png": by_pillow(palette_mask([0, 0, 0, 128, 0, 0])),
    "palette_of_grays.png": by_pillow(palette_mask([v for v in range(256) for _ in range(3)])),
    "palette.tif": by_pillow(palette_mask([0, 0, 0, 0, 0, 1])),
}


@pytest.mark.parametrize("name", list(MASKS))
def test_masks_mark_what_is_not_black_whatever_their_alpha(tmp_path: Path, name: str) -> None:
    MASKS[name](tmp_path / name)
    found = read_mask(tmp_path / name)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, MARKED)


def test_odd_files_go_through_index_and_crop(tmp_path: Path) -> None:
    """Sizes of the sample table and tiles are those of the pixels that went in."""
    folder = tmp_path / "data" / "nut" / "test"
    folder.mkdir(parents=True)
    expected: dict[str, np.ndarray] = {}
    for n, (name, (write, pixels)) in enumerate(LOSSLESS.items()):
        write(folder / f"{n:02} {name}")
        expected[f"{n:02} {Path(name).stem}"] = pixels
    for n, (name, (write, pixels)) in enumerate(ORIENTED.items()):
        write(6)(folder / f"turned {n:02} {name}")
        expected[f"turned {n:02} {Path(name).stem}"] = shown(pixels, 6)
    samples = index(tmp_path / "data", layout="folder")
    assert {s.sample_id: (s.height, s.width) for s in read_samples(samples)} == {
        name: pixels.shape[:2] for name, pixels in expected.items()
    }
    tiles, table = tmp_path / "tiles.npy", tmp_path / "tiles.parquet"
    crop_split(samples, tmp_path / "data", TileStore(tiles, table), Cutting("image", 0.0, "pad", 16), threads=2)
    store, rows = open_tiles(tiles, table)
    for tile, name in zip(store, rows["sample_id"], strict=True):
        resized = Image.fromarray(np.ascontiguousarray(expected[name])).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(tile, np.asarray(resized), name)


def test_a_turned_photograph_goes_with_a_mask_as_it_is_shown(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "nut" / "test" / "dent").mkdir(parents=True)
    (root / "nut" / "masks" / "dent").mkdir(parents=True)
    Image.fromarray(RGB).save(root / "nut" / "test" / "dent" / "a.jpg", exif=exif(6))
    Image.fromarray(np.rot90(MARKED, -1)).save(root / "nut" / "masks" / "dent" / "a.png")
    sample = read_samples(index(root, layout="folder"))[0]
    assert (sample.height, sample.width) == (WIDTH, HEIGHT)
    Image.fromarray(MARKED).save(root / "nut" / "masks" / "dent" / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 30 x 20 pixels; the image has 20 x 30"):
        index(root, layout="folder")


def test_links_to_images_and_folders_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_image(tmp_path / "store" / "Bild ä (1).PNG")
    write_image(tmp_path / "store" / "more" / "b.png")
    (root / "nut" / "test").mkdir(parents=True)
    (root / "nut" / "test" / "link.png").symlink_to(tmp_path / "store" / "Bild ä (1).PNG")
    (root / "bolt").mkdir()
    (root / "bolt" / "test").symlink_to(tmp_path / "store" / "more")
    assert [s.sample_id for s in read_samples(index(root, layout="folder"))] == ["link"]
    assert [s.sample_id for s in read_samples(index(root, layout="folder", category="bolt"))] == ["b"]


def vast_bmp(path: Path) -> None:
    """What a damaged header can ask for."""
    Image.fromarray(GRAY).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:18] + (65535).to_bytes(4, "little") * 2 + data[26:])


def test_sizes_come_from_headers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (write, _) in LOSSLESS.items():
        write(tmp_path / name)
    decoded: list[str] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image.format))
    for name in LOSSLESS:
        assert image_size(tmp_path / name) == (HEIGHT, WIDTH)
    assert decoded == []


def tiff_of(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="rgb")
    return stream.getvalue()


FILM = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
REFUSED: dict[str, tuple[Writer, str]] = {
    "float.tif": (by_tifffile(GRAY.astype(np.float32)), "32-bit floating-point numbers; expected"),
    "float_rgb.tif": (
        by_tifffile(RGB.astype(np.float32), photometric="rgb"),
        "a little-endian TIFF of 3 channels of 32-bit floating-point numbers (RGB, NONE), which robis cannot read",
    ),
    "half.tif": (by_tifffile(GRAY.astype(np.float16)), "1 channel of 16-bit floating-point numbers"),
    "double.tif": (by_tifffile(GRAY.astype(np.float64)), "1 channel of 64-bit floating-point numbers"),
    "gray_alpha_16.tif": (
        by_tifffile(DEEP[..., :2].copy(), photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]),
        "a little-endian TIFF of 2 channels of 16-bit unsigned numbers (MINISBLACK, NONE), which robis cannot read, "
        "or which is cut short; save it as PNG",
    ),
    "big_endian.tif": (
        by_tifffile(DEEP, photometric="rgb", byteorder=">", bigtiff=True),
        "a big-endian BigTIFF of 3 channels of 16-bit unsigned numbers (RGB, NONE), which robis cannot read",
    ),
    "jpeg_2000.tif": (
        lambda path: path.write_bytes(
            tiff_of(RGB).replace(struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 33003))
        ),
        "3 channels of 8-bit unsigned numbers (RGB, APERIO_JP2000_YCBC), which robis cannot read",
    ),
    "cmyk_16.tif": (
        by_tifffile(np.dstack([DEEP, DEEP[..., 0]]), photometric="separated"),
        "16-bit CMYK; expected CMYK of 8 bits, or RGB",
    ),
    "signed.tif": (by_tifffile(GRAY.astype(np.int16)), "16-bit signed numbers; expected unsigned ones of 8 or 16 bits"),
    "wide.tif": (by_tifffile(GRAY.astype(np.uint32)), "32-bit unsigned numbers; expected"),
    "pages.tif": (
        by_tifffile(np.stack([GRAY] * 3), photometric="minisblack"),
        "holds 3 pages; expected one image per file. Save each page as a file",
    ),
    "copy_first.tif": (
        lambda path: [
            tifffile.imwrite(path, RGB[::step, ::step].copy(), photometric="rgb", subfiletype=kind, append=kind == 0)
            for step, kind in ((2, 1), (1, 0))
        ],
        "its first page is a smaller copy or a mask of another; save that page alone",
    ),
    "planes_16.tif": (
        by_tifffile(DEEP.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
        "16-bit colors in separate planes; expected them interleaved",
    ),
    "gif.png": (
        lambda path: Image.fromarray(GRAY).save(path, "GIF"),
        "holds GIF; expected PNG, JPEG, BMP, TIFF",
    ),
    "dds.png": (lambda path: path.write_bytes(b"DDS |\0\0\0" + bytes(200)), "holds DDS; expected PNG, JPEG"),
    "icon.png": (lambda path: Image.fromarray(RGB).save(path, "ICO"), "holds an icon; expected PNG, JPEG"),
    "photo.jpg": (lambda path: Image.fromarray(RGB).save(path, "AVIF"), "holds AVIF; expected PNG, JPEG"),
    "pdf.png": (lambda path: path.write_bytes(b"%PDF-1.7\n"), "holds PDF; expected"),
    "short.png": (
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0"),
        "a PNG whose header is cut short or damaged",
    ),
    "short_2.jpg": (
        lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\0"),
        "a JPEG whose header is cut short or damaged",
    ),
    "page.png": (lambda path: path.write_text(" <!DOCTYPE html><html></html>"), "holds an HTML page; expected"),
    "pointer.png": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "holds a Git LFS pointer (`git lfs pull` fetches the file); expected",
    ),
    "film.webp": (by_pillow(RGB, **FILM), "holds 2 frames; expected one image per file. Save each frame as a file"),
    "film_2.png": (by_pillow(RGB, **FILM), "holds 2 frames; expected one image per file"),
    "vast.bmp": (vast_bmp, "65535 x 65535 pixels; expected at most 2^30 in all"),
}


if is_written("zstd"):
    REFUSED["zstandard_16.tif"] = (
        by_pillow(Image.fromarray(DEEP[..., 0].copy()), compression="zstd"),
        "16-bit pixels compressed by zstd; expected LZW, deflate or none",
    )


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_not_read_is_refused_by_its_header(tmp_path: Path, name: str) -> None:
    write, message = REFUSED[name]
    write(tmp_path / name)
    for read in (image_size, read_image, read_mask):
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert message in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["rgb.png", "rgb.bmp", "rgb.webp", "rgb_16.tiff", "big.tif", "rgb.ppm", "text.pgm"])
def test_damaged_files_are_answered_with_a_message(tmp_path: Path, name: str) -> None:
    """Whatever decoders raise for a damaged header or damaged pixels, robis raises DataError, or reads some pixels."""
    LOSSLESS[name][0](tmp_path / name)
    data = (tmp_path / name).read_bytes()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 200 if seed % 2 else len(data)), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / name).write_bytes(damaged)
        for read in (image_size, read_image):
            with contextlib.suppress(DataError):
                read(tmp_path / name)


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_image(tmp_path / "pyramid.tif"), RGB)
    assert image_size(tmp_path / "pyramid.tif") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "progressive.jpg", "a.bmp", "a.tif"])
def test_files_cut_short_have_a_size_and_are_found_by_crop(tmp_path: Path, name: str) -> None:
    large = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    whole = io.BytesIO()
    kind = {".jpg": "JPEG", ".tif": "TIFF"}.get(Path(name).suffix, Path(name).suffix[1:].upper())
    large.save(whole, kind, **({"progressive": True} if "progressive" in name else {}))
    path = tmp_path / "data" / "nut" / "test" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(whole.getvalue()[: int(len(whole.getvalue()) * 0.7)])
    assert image_size(path) == (8 * HEIGHT, 8 * WIDTH), "the header alone is read"
    samples = index(tmp_path / "data", layout="folder")
    output = TileStore(tmp_path / "t.npy", tmp_path / "t.parquet")
    with pytest.raises(DataError) as caught:
        crop_split(samples, tmp_path / "data", output, Cutting("image", 0.0, "pad", 16))
    assert str(caught.value) == (
        f"{path}: not a readable image (its 240 x 160 pixels are cut short or damaged). "
        "Copy the file again, or take it out."
    )
    assert not (tmp_path / "t.npy").exists()


def test_index_tells_of_refused_files_before_crop(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "nut" / "test"
    folder.mkdir(parents=True)
    for name, (write, _) in REFUSED.items():
        write(folder / name)
    with pytest.raises(DataError, match=rf"{len(REFUSED)} images cannot be read"):
        index(tmp_path / "data", layout="folder")


def test_parquet_keeps_odd_names(tmp_path: Path) -> None:
    for name in ("ä b.png", "#1.png", "100%.png", "quote'.png", "日本.png"):
        write_image(tmp_path / "data" / "nut" / "test" / name)
    table = pd.read_parquet(index(tmp_path / "data", layout="folder"))
    assert set(table["sample_id"]) == {"ä b", "#1", "100%", "quote'", "日本"}
