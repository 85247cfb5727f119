"""An upload as the MVTec AD 2 server takes it: every kind of damage is refused by name, before and after packing."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from robis.cli import main
from robis.detectors.settings import parse
from robis.errors import DataError
from robis.io.maps import write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.submission import archive, stage, upload
from robis.submission.check import check_upload
from robis.submission.stage import Part, pack
from robis.workflow.project import Project

# By hand, from the benchmark's own description: not from the code under test.
IMAGES = {
    "can": 321, "fabric": 314, "fruit_jelly": 255, "rice": 277, "sheet_metal": 142, "vial": 276,
    "wallplugs": 232, "walnuts": 228,
}  # fmt: skip
FEW_IMAGES = dict.fromkeys(IMAGES, 2) | {"can": 3}
WORDS = {"test_private": "regular", "test_private_mixed": "mixed"}
MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"


def encoded(array: np.ndarray, *, tiff: bool = False, **options) -> bytes:
    stream = io.BytesIO()
    if tiff:
        tifffile.imwrite(stream, array, **options)
    else:
        Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


GOOD_MAP = encoded(np.arange(80, dtype=np.float16).reshape(8, 10), tiff=True)
GOOD_MASK = encoded(np.eye(8, 10, dtype=np.uint8) * 255)


def write_tree(root: Path, images: dict[str, int]) -> None:
    for category, count in images.items():
        for split, word in WORDS.items():
            for kind, suffix, data in ((MAPS, "tiff", GOOD_MAP), (MASKS, "png", GOOD_MASK)):
                folder = root / kind / category / split
                folder.mkdir(parents=True)
                for number in range(count):
                    (folder / f"{number:03}_{word}.{suffix}").write_bytes(data)


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def tar_command(*arguments: object) -> str:
    return subprocess.run(["tar", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def problems(path: Path, *, threads: int = 1) -> str:
    """What is wrong, "" if nothing is."""
    report = check_upload(path, upload.Upload(upload.benchmark_ids()), threads=threads)
    return "" if report.is_good else report.problem_text()


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "tree"
    write_tree(root, FEW_IMAGES)
    return root


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark with fewer images, so that each kind of damage is tried in no time."""
    monkeypatch.setattr(upload, "IMAGES", FEW_IMAGES)


@pytest.fixture
def tree(few_images: None, small_tree: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_tree, tmp_path / "tree")
    return tmp_path / "tree"


def parts_of(root: Path, samples: Path, *, height: int = 32, width: int = 40) -> list[Part]:
    """The parts of a tree as the workflow gives them, with sample tables of images four times the maps' size."""
    parts = []
    for folder in sorted((root / MAPS).glob("*/*")):
        category, split = folder.parts[-2:]
        table = samples / category / f"{split}.parquet"
        table.parent.mkdir(parents=True, exist_ok=True)
        ids = sorted(path.stem for path in folder.glob("*.tiff"))
        write_samples(table, [IndexedSample(one, split, "x.png", None, None, None, height, width) for one in ids])
        parts.append(Part.of_files(str(table), str(folder), str(root / MASKS / category / split)))
    return parts


def scales_of(parts: list[Part], scale: float = 0.25) -> dict[str, float]:
    return {f"{part.category}/{part.split}": scale for part in parts}


def test_a_full_upload_is_taken_as_folder_and_as_archive(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    write_tree(root, IMAGES)
    report = check_upload(root, upload.Upload(upload.benchmark_ids()))
    assert report.is_good
    assert sum(row.maps for row in report.rows.values()) == sum(row.masks for row in report.rows.values()) == 4090
    assert re.search(r"^sheet_metal +test_private_mixed +142 +142 +10 x 8 +142$", report.table(), flags=re.MULTILINE)

    parts = parts_of(root, tmp_path / "samples")
    packed = tmp_path / "submission.tar.gz"
    pack(parts, packed, scales=scales_of(parts), threads=2)
    names = tar_command("-tzf", packed).splitlines()
    assert len(names) == 8180
    assert names == sorted(names)
    assert names[0] == "anomaly_images/can/test_private/000_regular.tiff"
    assert names[-1] == "anomaly_images_thresholded/walnuts/test_private_mixed/227_mixed.png"

    (tmp_path / "out").mkdir()
    tar_command("-xzf", packed, "-C", tmp_path / "out")
    assert files_below(tmp_path / "out") == files_below(root)
    by_command = tmp_path / "by_command.tar.gz"
    tar_command("-czf", by_command, "-C", root, ".")
    assert problems(by_command, threads=2) == ""


@pytest.mark.usefixtures("few_images")
@pytest.mark.parametrize(
    "arguments",
    [
        ("-czf", "{archive}.tar.gz", "-C", "{tree}", "."),
        ("-czf", "{archive}.tar.gz", "-C", "{tree}", MASKS, MAPS),
        ("-czf", "{archive}.tar.gz", "-C", "{tree}/..", "tree"),
        ("-cf", "{archive}.tar", "-C", "{tree}", "."),
        ("-czf", "{archive}.tar.gz", "--format=v7", "-C", "{tree}", "."),
        ("-czf", "{archive}.tar.gz", "--format=pax", "-C", "{tree}/..", "tree"),
    ],
)
def test_archives_of_the_tar_command_are_taken(small_tree: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Also in one folder, which is how the benchmark's own script packs."""
    tar_command(*(one.format(archive=tmp_path / "a", tree=small_tree) for one in arguments))
    (packed,) = tmp_path.iterdir()
    report = check_upload(packed, upload.Upload(upload.benchmark_ids()))
    assert report.is_good, report.problem_text()
    assert any("takes one .tar.gz" in note for note in report.notes) == (packed.suffix == ".tar")


def replaced(name: str, data: bytes | None, to: str | None = None) -> Callable[[Path], None]:
    """Delete a file of a tree, write it anew, or rename it."""

    def damage(root: Path) -> None:
        path = root / name
        if to is not None:
            (root / to).parent.mkdir(parents=True, exist_ok=True)
            path.rename(root / to)
        elif data is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    return damage


def moved(name: str, to: str) -> Callable[[Path], None]:
    return replaced(name, None, to)


def without(folder: str) -> Callable[[Path], None]:
    return lambda root: shutil.rmtree(root / folder)


def new_map(array: np.ndarray, **options) -> Callable[[Path], None]:
    return replaced(MAP, encoded(array, tiff=True, **options))


def new_mask(array: np.ndarray, **options) -> Callable[[Path], None]:
    return replaced(MASK, encoded(array, **options))


def filled(value: float, dtype: type = np.float16) -> np.ndarray:
    values = np.zeros((8, 10), dtype)
    values[3, 4] = value
    return values


def saved_as(mode: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        Image.open(root / MASK).convert(mode).save(root / MASK)

    return damage


MAP, MASK = f"{MAPS}/can/test_private/001_regular.tiff", f"{MASKS}/rice/test_private_mixed/001_mixed.png"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    # Files and folders.
    "a map is missing": (replaced(MAP, None), r"can/test_private\n +1 of 3 maps missing: 001_regular\.tiff"),
    "a mask is missing": (replaced(MASK, None), r"rice/test_private_mixed\n +1 of 2 masks missing: 001_mixed\.png"),
    "a category is missing": (without(f"{MAPS}/vial"), r"vial\n +missing: anomaly_images/vial/ \(4 files\)"),
    "a split is missing": (
        without(f"{MASKS}/vial/test_private"),
        r"vial/test_private\n +missing: anomaly_images_thresholded/vial/test_private/ \(2 files\)",
    ),
    "masks are missing": (
        without(MASKS),
        r"no masks at all; the server gives 0 for .*: anomaly_images_thresholded/ \(34 files\)",
    ),
    "maps are missing": (without(MAPS), r"no maps at all: anomaly_images/ \(34 files\)"),
    "an image too many": (
        replaced(f"{MAPS}/can/test_private/003_regular.tiff", GOOD_MAP),
        r"superfluous; expected 000_regular\.tiff to 002_regular\.tiff: 003_regular\.tiff",
    ),
    "numbered from 1": (
        moved(f"{MAPS}/can/test_private/000_regular.tiff", f"{MAPS}/can/test_private/003_regular.tiff"),
        r"expected 000_regular\.tiff to 002_regular\.tiff: 003_regular\.tiff\n.*1 of 3 maps missing: 000_regular\.tiff",
    ),
    "fewer digits": (moved(MAP, MAP.replace("001", "1")), r"1_regular\.tiff \(expected 001_regular\.tiff\)"),
    "more digits": (moved(MAP, MAP.replace("001", "0001")), r"0001_regular\.tiff \(expected 001_regular\.tiff\)"),
    "another suffix": (moved(MAP, MAP.replace("tiff", "tif")), r"001_regular\.tif \(expected 001_regular\.tiff\)"),
    "upper case": (moved(MASK, MASK.replace("png", "PNG")), r"misnamed: 001_mixed\.PNG \(expected 001_mixed\.png\)"),
    "the other split's name": (
        moved(MAP, MAP.replace("regular", "mixed")),
        r"misnamed: 001_mixed\.tiff \(expected 001_regular\.tiff\)",
    ),
    "a mask among the maps": (
        replaced(MAP.replace("tiff", "png"), GOOD_MASK),
        r"can/test_private\n +superfluous; expected 000_regular\.tiff .*: 001_regular\.png",
    ),
    "a category in upper case": (
        moved(f"{MAPS}/can", f"{MAPS}/Can"),
        r"does not belong here; expected can, fabric, .*, walnuts: anomaly_images/Can \(",
    ),
    "a folder in upper case": (
        moved(MAPS, "Anomaly_images"),
        r"expected anomaly_images, anomaly_images_thresholded: Anomaly_images \(",
    ),
    "a public split": (
        replaced(f"{MAPS}/can/test_public/000_regular.tiff", GOOD_MAP),
        r"expected test_private, test_private_mixed: anomaly_images/can/test_public$",
    ),
    "a folder in a split": (
        replaced(f"{MAPS}/can/test_private/good/000_regular.tiff", GOOD_MAP),
        r"folder that does not belong here; .*: anomaly_images/can/test_private/good",
    ),
    "an empty folder": (
        lambda root: (root / MAPS / "can" / "validation").mkdir(),
        r"1 problem:\n.*expected test_private, test_private_mixed: anomaly_images/can/validation$",
    ),
    "a file at the top": (replaced("README.md", b"mine"), r"does not belong here; expected .*: README\.md"),
    "a file for a folder": (
        lambda root: [shutil.rmtree(root / MAPS / "can"), (root / MAPS / "can").write_bytes(b"")],
        r"a file; expected a folder: anomaly_images/can",
    ),
    "a desktop's file": (
        replaced(f"{MAPS}/can/.DS_Store", b"x"),
        r"hidden; delete it: anomaly_images/can/\.DS_Store",
    ),
    "a resource fork": (
        replaced(f"{MAPS}/can/test_private/._001_regular.tiff", b"x"),
        r"hidden; delete it: anomaly_images/can/test_private/\._001_regular\.tiff",
    ),
    "a link": (
        lambda root: [(root / MAP).unlink(), (root / MAP).symlink_to("000_regular.tiff")],
        r"link; expected files and folders only: anomaly_images/can/test_private/001_regular\.tiff",
    ),
    "a linked folder": (
        lambda root: [shutil.rmtree(root / MASKS / "can"), (root / MASKS / "can").symlink_to(root / MASKS / "rice")],
        r"link; expected files and folders only: anomaly_images_thresholded/can",
    ),
    "a pipe": (
        lambda root: [(root / MASK).unlink(), os.mkfifo(root / MASK)],
        r"device, pipe or socket; expected .*: anomaly_images_thresholded/rice/test_private_mixed/001_mixed\.png",
    ),
    # Maps.
    "float32": (new_map(filled(1, np.float32)), r"map is float32; expected float16: 001_regular\.tiff"),
    "float64": (new_map(filled(1, np.float64)), r"map is float64; expected float16: 001_regular\.tiff"),
    "uint8": (new_map(filled(1, np.uint8)), r"map is uint8; expected float16: 001_regular\.tiff"),
    "a color map": (
        new_map(np.zeros((8, 10, 3), np.float16), photometric="rgb"),
        r"map has 1 page\(s\) and shape 8 x 10 x 3; expected one page, one channel: 001_regular\.tiff",
    ),
    "a third axis": (new_map(np.zeros((1, 8, 10), np.float16)), r"shape 1 x 8 x 10; .* one channel: 001_regular\.tiff"),
    "pages": (new_map(np.zeros((2, 8, 10), np.float16)), r"map has 2 page\(s\) .*; .*: 001_regular\.tiff"),
    "not a number": (new_map(filled(np.nan)), r"map holds values that are not finite .*: 001_regular\.tiff"),
    "infinite": (new_map(filled(-np.inf)), r"map holds values that are not finite .*: 001_regular\.tiff"),
    "an empty map": (replaced(MAP, b""), r"map is not a readable TIFF: 001_regular\.tiff \(empty file\)"),
    "a map cut off": (replaced(MAP, GOOD_MAP[:-1]), r"map is not a readable TIFF: 001_regular\.tiff \(failed to read"),
    "a PNG as a map": (replaced(MAP, GOOD_MASK), r"map is not a readable TIFF: 001_regular\.tiff \(not a TIFF file"),
    # Masks.
    "1 for 255": (new_mask(filled(1, np.uint8)), r"mask holds the value 1; expected 0 and 255: 001_mixed\.png"),
    "254": (new_mask(filled(254, np.uint8)), r"mask holds the value 254; expected 0 and 255: 001_mixed\.png"),
    "RGB": (saved_as("RGB"), r"mask has mode RGB; expected one 8-bit grey channel .*: 001_mixed\.png"),
    "RGBA": (saved_as("RGBA"), r"mask has mode RGBA; expected one 8-bit grey channel .*: 001_mixed\.png"),
    "LA": (saved_as("LA"), r"mask has mode LA; expected one 8-bit grey channel .*: 001_mixed\.png"),
    "palette": (saved_as("P"), r"mask has mode P; expected one 8-bit grey channel .*: 001_mixed\.png"),
    "1 bit": (saved_as("1"), r"mask has mode 1; expected one 8-bit grey channel .*: 001_mixed\.png"),
    "16 bits": (new_mask(filled(255, np.uint16)), r"mask has mode I;16; expected one 8-bit grey .*: 001_mixed\.png"),
    "a mask cut off": (replaced(MASK, GOOD_MASK[:-20]), r"mask is not a readable PNG: 001_mixed\.png \("),
    "a mask without its end": (replaced(MASK, GOOD_MASK[:-12]), r"mask is not a readable PNG: 001_mixed\.png \("),
    "a flipped bit": (
        replaced(MASK, GOOD_MASK[:48] + bytes([GOOD_MASK[48] ^ 1]) + GOOD_MASK[49:]),
        r"mask is not a readable PNG: 001_mixed\.png \(broken PNG file",
    ),
    "an empty mask": (replaced(MASK, b""), r"mask is not a readable PNG: 001_mixed\.png \(empty file\)"),
    "a TIFF as a mask": (replaced(MASK, GOOD_MAP), r"mask is not a readable PNG: 001_mixed\.png \(no such format\)"),
    # Both.
    "another size": (
        new_mask(np.zeros((8, 9), np.uint8)),
        r"mask of 9 x 8 pixels; expected 10 x 8, its map's size: 001_mixed\.png",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_refused_by_name(tree: Path, tmp_path: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(tree)
    assert re.search(message, problems(tree), flags=re.DOTALL | re.MULTILINE), problems(tree)
    tar_command("-czf", tmp_path / "a.tar.gz", "-C", tree.parent, "tree")
    assert re.search(message, problems(tmp_path / "a.tar.gz", threads=2), flags=re.DOTALL | re.MULTILINE)


def test_all_damage_is_listed_at_once(tree: Path) -> None:
    together = [
        "a mask is missing",
        "float32",
        "a desktop's file",
        "a split is missing",
        "upper case",
        "a public split",
    ]
    (tree / f"{MAPS}/can/test_private/000_regular.tiff").write_bytes(b"")
    for name in together:
        if name != "a mask is missing":
            DAMAGES[name][0](tree)
    found = problems(tree)
    for name in together[1:]:
        assert re.search(DAMAGES[name][1], found, flags=re.DOTALL | re.MULTILINE), name
    assert "000_regular.tiff (empty file)" in found
    assert re.match(r".*tree: 8 problems:\n", found)


def test_many_files_with_one_mistake_are_one_line(tree: Path) -> None:
    for path in (tree / MAPS).rglob("*.tiff"):
        path.write_bytes(encoded(filled(1, np.float32), tiff=True))
    lines = problems(tree).splitlines()
    assert lines[1:3] == [
        "  can/test_private",
        "    map is float32; expected float16: 000_regular.tiff, 001_regular.tiff, 002_regular.tiff",
    ]
    assert len(lines) == 1 + 2 * 16 + 2, "a heading and a line for each split, and two notes"


@pytest.mark.parametrize(
    "values",
    [
        encoded(np.zeros((8, 10), ">f2"), tiff=True, byteorder=">"),
        encoded(-filled(5), tiff=True, compression="zlib"),
        encoded(filled(65504), tiff=True, tile=(16, 16)),
    ],
    ids=["big-endian", "negative and zlib", "largest and tiled"],
)
def test_other_tools_ways_to_write_the_same_are_taken(tree: Path, values: bytes) -> None:
    (tree / MAP).write_bytes(values)
    assert problems(tree) == ""


def test_what_the_server_takes_but_nobody_wants_is_a_warning(tree: Path) -> None:
    for path in (tree / MASKS / "can" / "test_private").iterdir():
        path.write_bytes(encoded(filled(0, np.uint8)))
    for path in (tree / MAPS / "vial" / "test_private_mixed").iterdir():
        path.write_bytes(encoded(np.full((8, 10), 7, np.float16), tiff=True))
    report = check_upload(tree, upload.Upload(upload.benchmark_ids()))
    assert report.is_good
    assert report.warnings == [
        "can/test_private: no mask has a defect pixel.",
        "vial/test_private_mixed: each map has the same value everywhere.",
    ]


class Archive:
    """An archive of a tree to which members are added one by one, as no well-meaning tool would."""

    def __init__(self, path: Path, tree: Path, *, mode: str = "w:gz") -> None:
        self.path, self.tar = path, tarfile.open(path, mode)  # noqa: SIM115
        self.tar.add(tree, arcname=".")

    def add(self, name: str, data: bytes = b"", **fields) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for field, value in fields.items():
            setattr(member, field, value)
        self.tar.addfile(member, io.BytesIO(data))

    def problems(self) -> str:
        self.tar.close()
        return problems(self.path)


@pytest.fixture
def odd_archive(tree: Path, tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path / "odd.tar.gz", tree)
    yield archive
    archive.tar.close()


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        (
            MAP,
            {},
            r"can/test_private\n +stored twice; expected once: anomaly_images/can/test_private/001_regular\.tiff",
        ),
        (f"/{MAP}", {}, r"path that leads out of the upload; expected .*: /anomaly_images/can/"),
        (
            f"../{MAP}",
            {},
            r"path that leads out of the upload; expected relative ones without \.\.: \.\./anomaly_images",
        ),
        (f"{MAPS}/../x", {}, r"path that leads out of the upload; .*: anomaly_images/\.\./x"),
        (f"other/{MAP}", {}, r"not where most files are; expected at the top: other/anomaly_images/can"),
        (f"a/b/{MAP}", {}, r"too deep; expected anomaly_images at the top or in one folder: a/b/anomaly_images"),
        ("a", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, r"link; expected files and folders only: a"),
        ("a", {"type": tarfile.LNKTYPE, "linkname": MAP}, r"link; expected files and folders only: a"),
        ("a", {"type": tarfile.CHRTYPE}, r"device, pipe or socket; expected files and folders only: a"),
        ("bad\n\x1b[31mname", {}, r"expected .*: bad\\n\\x1b\[31mname"),
        ("bad\udcffname", {}, r"expected .*: bad\\udcffname"),
        ("._can", {}, r"hidden; delete it: \._can"),
        (f"._x/{MAP}", {}, r"hidden; delete it: \._x"),
    ],
)
def test_odd_members_are_refused_by_name(odd_archive: Archive, name: str, fields: dict, message: str) -> None:
    odd_archive.add(name, GOOD_MAP if not fields else b"", **fields)
    assert re.search(message, odd_archive.problems()), problems(odd_archive.path)
    assert "\x1b" not in problems(odd_archive.path)


def test_a_file_beside_the_one_folder_is_refused(tree: Path, tmp_path: Path) -> None:
    for folder in (tree, tree.parent):
        (folder / "README.md").touch()
    tar_command("-cf", tmp_path / "a.tar", "-C", tree.parent, "tree", "README.md")
    assert "expected anomaly_images, anomaly_images_thresholded: README.md (2 files)" in problems(tmp_path / "a.tar")


def test_damaged_archives_are_refused_and_what_is_missing_is_not_guessed(tree: Path, tmp_path: Path) -> None:
    DAMAGES["a desktop's file"][0](tree)
    with tarfile.open(tmp_path / "good.tar", "w") as tar:
        tar.add(tree, arcname=".")
    plain = (tmp_path / "good.tar").read_bytes()
    packed = gzip.compress(plain)
    header = plain.index(b"./anomaly_images_thresholded/wallplugs/")
    damaged = {
        "cut.tar.gz": packed[: len(packed) // 2],
        "trailer.tar.gz": packed[:-4],
        "checksum.tar.gz": packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:],
        "cut.tar": plain[: len(plain) // 2 + 77],
        "header.tar": plain[:header] + b"?" + plain[header + 1 :],
        "behind.tar": plain + b"more",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        found = problems(tmp_path / name)
        assert re.search(
            rf"{name}: .*damaged or cut off, the rest was not looked at: after ", found, flags=re.DOTALL | re.MULTILINE
        )
        assert "missing" not in found
        assert "hidden; delete it: anomaly_images/can/.DS_Store" in found, "what comes before is still told"


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("anomaly_images/x", "y")
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(b"no tar"))
    (tmp_path / "c.tar.gz").touch()
    for name in ("a.zip", "b.tar.gz", "c.tar.gz"):
        with pytest.raises(DataError, match=rf"{name}: not a \.tar\.gz or \.tar"):
            problems(tmp_path / name)
    with pytest.raises(DataError, match=r"nowhere: no such folder or file\. Expected a folder, a \.tar\.gz or a \.tar"):
        problems(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no folder anomaly_images or anomaly_images_thresholded"):
        problems(tmp_path)


def test_bytes_depend_on_names_and_contents_only(small_tree: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(rng.bytes(3 * archive.BLOCK + 12345))
    files = [(name, small_tree / name) for name in files_below(small_tree)] + [("anomaly_images/noise", noise)]
    archive.write_archive(files, tmp_path / "first", threads=1)
    noise.write_bytes(noise.read_bytes())  # another time stamp
    noise.chmod(0o600)
    archive.write_archive(reversed(files), tmp_path / "second", threads=3)
    packed = (tmp_path / "first").read_bytes()
    assert packed == (tmp_path / "second").read_bytes()
    # One gzip member, as zlib, the gzip command and every tar see it.
    reader = zlib.decompressobj(wbits=31)
    plain = reader.decompress(packed)
    assert reader.eof and reader.unused_data == b""
    assert plain == gzip.decompress(packed)
    subprocess.run(["gzip", "--test"], input=packed, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r|gz") as tar:
        members = {member.name: (member, tar.extractfile(member).read()) for member in tar}
    assert {name: data for name, (_, data) in members.items()} == {name: path.read_bytes() for name, path in files}
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m, _ in members.values()} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_files_are_checked_before_they_are_packed(tree: Path, tmp_path: Path) -> None:
    parts = parts_of(tree, tmp_path / "samples")
    (tree / MAP).write_bytes(encoded(filled(1, np.float32), tiff=True))
    (tree / MASK).unlink()
    with pytest.raises(DataError, match=r"(?s)map is float32.*: 001_regular\.tiff.*1 of 2 masks missing: 001_mixed"):
        pack(parts, tmp_path / "submission.tar.gz", scales=scales_of(parts))
    assert not list(tmp_path.glob("*submission*"))


def test_sizes_are_compared_with_the_images(tree: Path, tmp_path: Path) -> None:
    parts = parts_of(tree, tmp_path / "samples")
    pack(parts, tmp_path / "submission.tar.gz", scales=scales_of(parts))
    with pytest.raises(DataError, match=r"map of 10 x 8 pixels; expected 20 x 16, its image's size times the scale"):
        pack(parts, tmp_path / "other.tar.gz", scales=scales_of(parts) | {"can/test_private": 0.5})
    assert not list(tmp_path.glob("*other*"))


def test_the_archive_is_checked_before_it_gets_its_name(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that changes between check and packing is found in the archive."""
    write = stage.write_archive

    def write_late(files, target: Path, *, threads: int) -> None:
        (tree / MASK).write_bytes(encoded(filled(1, np.uint8)))
        write(files, target, threads=threads)

    monkeypatch.setattr(stage, "write_archive", write_late)
    parts = parts_of(tree, tmp_path / "samples")
    with pytest.raises(DataError, match=r"(?s)changed while they were packed; run again.*holds the value 1"):
        pack(parts, tmp_path / "submission.tar.gz", scales=scales_of(parts))
    assert not list(tmp_path.glob("*submission*"))


def test_other_categories_are_packed_for_practice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for kind, write, suffix in ((MAPS, write_map, "tiff"), (MASKS, write_mask, "png")):
        for name in ("a", "b"):
            (tmp_path / kind / "nut" / "test_private").mkdir(parents=True, exist_ok=True)
            write(tmp_path / kind / "nut" / "test_private" / f"{name}.{suffix}", np.eye(8, 10, dtype=np.float16))
    parts = parts_of(tmp_path, tmp_path / "samples")
    pack(parts, tmp_path / "submission.tar.gz", scales=scales_of(parts))
    with tarfile.open(tmp_path / "submission.tar.gz") as tar:
        assert tar.getnames() == [
            "anomaly_images/nut/test_private/a.tiff",
            "anomaly_images/nut/test_private/b.tiff",
            "anomaly_images_thresholded/nut/test_private/a.png",
            "anomaly_images_thresholded/nut/test_private/b.png",
        ]
    assert "For practice only: the server would refuse this upload" in caplog.text
    assert "not nut" in caplog.text


def test_a_part_of_the_benchmark_is_refused_with_what_is_missing() -> None:
    ids = upload.benchmark_ids()
    partly = {place: names for place, names in ids.items() if place[0] in ("can", "rice", "vial")}
    del partly["rice", "test_private_mixed"]
    partly["can", "test_private"] = partly["can", "test_private"][1:]
    partly["nut", "test_private"] = partly["vial", "test_private_2"] = ("000_regular",)
    with pytest.raises(DataError, match="both private splits of each and all their images, or nothing") as refused:
        upload.make_upload(partly)
    lines = str(refused.value).splitlines()[1:-1]
    assert lines == [
        "  can/test_private: 1 of 321 missing: 000_regular",
        *("  fabric: missing", "  fruit_jelly: missing"),
        "  rice: no test_private_mixed",
        *("  sheet_metal: missing", "  wallplugs: missing", "  walnuts: missing"),
        "  nut: no category of the benchmark",
        "  vial/test_private_2: no split of the benchmark",
    ]
    assert upload.make_upload(ids).is_benchmark
    with pytest.raises(DataError, match=r"dataset\.splits has no private split\. Add test_private and"):
        upload.make_upload({})


def test_what_is_missing_is_told_before_any_job_starts(tmp_path: Path) -> None:
    for folder in ("can/train/good", "can/test_private", "nut/train/good", "nut/test_private"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "000_regular.png").touch()
    dataset = {"name": "d", "layout": "mvtec_ad_2", "root": str(tmp_path), "splits": ["test_private"]}
    with pytest.raises(DataError, match=r"(?s)can/test_private: 320 of 321 missing.*can: no test_private_mixed.*rice"):
        Project(parse({"dataset": dataset})).check_submission()
    Project(parse({"dataset": dataset | {"categories": ["nut"]}})).check_submission()
    with pytest.raises(DataError, match="has no private split"):
        Project(parse({"dataset": dataset | {"splits": ["test_public"]}})).check_submission()


def test_benchmark_numbers() -> None:
    ids = upload.benchmark_ids()
    assert {category: len(ids[category, "test_private"]) for category in IMAGES} == IMAGES
    assert len(ids) == 16
    assert ids["vial", "test_private_mixed"][0] == "000_mixed"
    assert ids["vial", "test_private_mixed"][-1] == "275_mixed"


def test_command_checks_any_tree(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["submission", "check", str(tree), "--threads", "1"]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert re.search(r"^can +test_private +3 +3 +10 x 8 +3$", output, flags=re.MULTILINE)
    assert output.endswith("tree: good, nothing is wrong or missing.\n")
    parts_of(tree, tmp_path / "samples")
    assert main([*command, "--samples", str(tmp_path / "samples")]) == 0
    assert main([*command, "--samples", str(tmp_path / "samples"), "--scale", "1"]) == 1
    assert "map of 10 x 8 pixels; expected 40 x 32" in capsys.readouterr().err
    assert main([*command, "--samples", str(tmp_path)]) == 1
    assert "holds no C/test_private.parquet" in capsys.readouterr().err
    assert main([*command, "--scale", "4"]) == 1
    assert "--scale: found 4; expected above 0 and at most 1" in capsys.readouterr().err
    (tree / MAP).unlink()
    assert main(command) == 1
    assert "1 of 3 maps missing: 001_regular.tiff" in capsys.readouterr().err


def test_command_reads_sizes_from_the_data_set(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    for category, count in FEW_IMAGES.items():
        for split, word in WORDS.items():
            (root / category / split).mkdir(parents=True)
            for number in range(count):
                size = (44, 32) if (category, split, number) == ("rice", "test_private", 1) else (40, 32)
                Image.new("L", size).save(root / category / split / f"{number:03}_{word}.png")
    assert main(["submission", "check", str(tree), "--root", str(root)]) == 1
    message = capsys.readouterr().err
    assert "map of 10 x 8 pixels; expected 11 x 8, its image's size times the scale: 001_regular.tiff" in message
    assert "mask of 10 x 8 pixels; expected 11 x 8, its image's size times the scale: 001_regular.png" in message
    (root / "rice" / "test_private" / "001_regular.png").unlink()
    assert main(["submission", "check", str(tree), "--root", str(root)]) == 1
    assert "rice/test_private: 1 of 2 missing: 001_regular" in capsys.readouterr().err


def test_results_of_a_run_point_to_its_archive(tree: Path) -> None:
    (tree / "submission.tar.gz").touch()
    assert f"what to upload is {tree / 'submission.tar.gz'}" in problems(tree)


def claiming(size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header that claims a size, and a few bytes."""
    header = tarfile.TarInfo(MAP)
    header.size, header.type = size, kind
    return header.tobuf(tarfile.GNU_FORMAT) + b"x" * 512


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.DIRTYPE])
def test_a_size_that_a_header_claims_costs_nothing(tree: Path, tmp_path: Path, packed: bool, kind: bytes) -> None:
    with tarfile.open(tmp_path / "good.tar", "w") as tar:
        tar.add(tree, arcname=".")
    plain = (tmp_path / "good.tar").read_bytes().rstrip(b"\0")
    plain += b"\0" * (-len(plain) % 512) + claiming(2**62, kind)
    path = tmp_path / ("a.tar.gz" if packed else "a.tar")
    path.write_bytes(gzip.compress(plain) if packed else plain)
    # A folder has no content, whatever its header says: it is refused for what it is.
    damaged = r"damaged or cut off, the rest was not looked at: after \d+"
    expected = r"folder that" if kind == tarfile.DIRTYPE else damaged
    assert re.search(expected, problems(path))


def test_much_behind_little_is_not_unpacked(tree: Path, tmp_path: Path) -> None:
    """A compressed archive of a few hundred kilobytes that holds 2 GiB of zeros in files that nobody expects."""
    zeros = gzip.compress(bytes(2**27))
    with tarfile.open(tmp_path / "good.tar", "w") as tar:
        tar.add(tree, arcname=".")
    plain = (tmp_path / "good.tar").read_bytes().rstrip(b"\0")
    header = tarfile.TarInfo("nobody expects this")
    header.size = 2**27
    entries = (gzip.compress(header.tobuf()) + zeros) * 16
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain + b"\0" * (-len(plain) % 512)) + entries)
    assert re.search(r"over 67108864 bytes that belong to no expected file", problems(tmp_path / "a.tar.gz"))
