"""Whatever a run refuses, `robis data check` reports, and the other way round: over every fault that users reported.

A run refuses in the plan, or in `index`, which opens the files of every split that some job reads.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from robis.cli import main
from robis.datasets.index import index_split
from robis.detectors.settings import load
from robis.errors import RobisError
from robis.workflow.checks import check_plan, needed_images
from robis.workflow.project import Project
from tests.unit.trees import write_image, write_mask

Config = dict[str, Any]
Spoil = Callable[[Path, Config], None]


def tree(root: Path) -> None:
    """Two products: one with defects and masks, one unlabeled."""
    for number in range(4):
        write_image(root / "nut" / "train" / f"{number}.png", 10, 12)
        write_image(root / "bolt" / "train" / f"{number}.png", 10, 12)
        write_image(root / "bolt" / "test" / f"{number}.png", 10, 12)
        write_image(root / "nut" / "test" / "good" / f"{number}.png", 10, 12)
        write_image(root / "nut" / "test" / "dent" / f"{number}.png", 10, 12)
        write_mask(root / "nut" / "masks" / "dent" / f"{number}.png", 10, 12)


def changed(**sections: Any) -> Spoil:
    """Other values in a config."""

    def spoil(root: Path, config: Config) -> None:
        for section, values in sections.items():
            config[section] = {**config.get(section, {}), **values} if isinstance(values, dict) else values

    return spoil


def written(text: str | bytes) -> Spoil:
    """A config with these bytes at its end."""
    return lambda root, config: config.update(bytes=text if isinstance(text, bytes) else text.encode())


def added(place: str, content: bytes = b"", like: str = "") -> Spoil:
    """One more file, or another content of a file."""

    def spoil(root: Path, config: Config) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes((root / like).read_bytes() if like else content)

    return spoil


def image(place: str, height: int = 10, width: int = 12) -> Spoil:
    return lambda root, config: write_image(root / place, height, width)


def mask(place: str, height: int = 10, width: int = 12, *, defect: bool = True) -> Spoil:
    return lambda root, config: write_mask(root / place, height, width, defect=defect)


def moved(source: str, target: str) -> Spoil:
    def spoil(root: Path, config: Config) -> None:
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        (root / source).rename(root / target)

    return spoil


def removed(*places: str) -> Spoil:
    def spoil(root: Path, config: Config) -> None:
        for place in places:
            shutil.rmtree(root / place) if (root / place).is_dir() else (root / place).unlink()

    return spoil


def inverted(root: Path, config: Config) -> None:
    place = root / "nut" / "masks" / "dent" / "0.png"
    Image.fromarray(255 - np.asarray(Image.open(place))).save(place)


def two_forms_of_a_name(root: Path, config: Config) -> None:
    for form in ("NFC", "NFD"):
        write_image(root / "nut" / "train" / f"{unicodedata.normalize(form, 'ü')}.png", 10, 12)


def weights(place: str, content: bytes) -> Spoil:
    def spoil(root: Path, config: Config) -> None:
        added(place, content)(root, config)
        config["encoder"]["weights"] = "data/w.pth"

    return spoil


def checkpoint(content: bytes) -> Spoil:
    def spoil(root: Path, config: Config) -> None:
        added("sam.pth", content)(root, config)
        config["refine"] = {"method": "sam", "checkpoint": "data/sam.pth"}

    return spoil


def encoder_file(content: bytes) -> Spoil:
    def spoil(root: Path, config: Config) -> None:
        added("clip.json", content)(root, config)
        config |= {"detectors": ["winclip"], "encoder": {"name": "data/clip.json", "weights": "random"}}

    return spoil


def loco_masks(root: Path, config: Config) -> None:
    config["dataset"]["layout"] = "mvtec_ad"
    for category in ("nut", "bolt"):
        for number in range(4):
            write_image(root / category / "train" / "good" / f"{number}.png", 10, 12)
        write_image(root / category / "test" / "good" / "0.png", 10, 12)
    (root / "bolt" / "test" / "0.png").unlink()
    shutil.rmtree(root / "nut" / "masks")
    write_mask(root / "nut" / "ground_truth" / "dent" / "0" / "000.png", 10, 12)


def in_a_table(text: str, encoding: str = "utf-8") -> Spoil:
    def spoil(root: Path, config: Config) -> None:
        config["dataset"] |= {"layout": "table", "splits": ["test"]}
        head = "category,split,image,label,mask\n"
        lines = "".join(f"nut,train,nut/train/{n}.png,good,\nnut,test,nut/test/good/{n}.png,good,\n" for n in range(4))
        (root / "samples.csv").write_bytes((head + lines + text).encode(encoding))

    return spoil


def cannot_lend(root: Path, config: Config) -> None:
    config["merge"] = {"normalize": "validation"}
    for number in range(1, 4):
        (root / "bolt" / "train" / f"{number}.png").unlink()


def dangling(root: Path, config: Config) -> None:
    (root / "nut" / "train" / "new.png").symlink_to(root / "absent.png")


def bomb(root: Path, config: Config) -> None:
    """A PNG whose header claims 65,500 x 65,500 pixels."""
    header = bytearray((root / "nut" / "train" / "0.png").read_bytes())
    header[16:24] = (65_500).to_bytes(4, "big") * 2
    (root / "nut" / "train" / "0.png").write_bytes(bytes(header))


def gray_mask(root: Path, config: Config) -> None:
    levels = np.arange(120, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(levels).save(root / "nut" / "masks" / "dent" / "0.png")


def nothing(root: Path, config: Config) -> None:
    """Leave it as it is."""


# What was wrong or odd -> how, and what both messages contain; None where a run accepts it, perhaps with a remark.
CASES: dict[str, tuple[Spoil, str | None]] = {
    "nothing": (nothing, None),
    # Images and masks left out or misread.
    "image of another format": (image("nut/train/new.webp"), None),
    "image one folder deeper": (image("nut/train/2026-11-02/new.png"), None),
    "image in a folder that nobody reads": (image("nut/trian/new.png"), None),
    "file that no decoder reads": (added("nut/train/new.heic", b"ftypheic"), None),
    "another spelling of good": (moved("nut/test/good", "nut/test/Good"), None),
    "another spelling of masks": (moved("nut/masks", "nut/ground_truth"), None),
    "inverted mask": (inverted, None),
    "two forms of one name": (two_forms_of_a_name, "1 image would share the names of another image's results"),
    "the same image in train and test": (added("nut/test/good/copy.png", like="nut/train/0.png"), None),
    "several masks of an image in another layout": (loco_masks, "4 defective images have no mask"),
    # Files of images and masks.
    "empty image": (added("nut/train/0.png"), "0.png: not a readable image (empty file)"),
    "text as image": (added("bolt/test/0.png", b"no image"), "0.png: not a readable image (unknown format)"),
    "DDS as image": (added("bolt/test/0.png", b"DDS " + bytes(200)), "0.png: not a readable image"),
    "cut image": (added("bolt/test/0.png", b"\x89PNG\r\n\x1a\n" + bytes(20)), "0.png: not a readable image"),
    "image of another name and suffix": (image("nut/train/0.bmp"), "1 image would share the names"),
    "cut mask": (added("nut/masks/dent/0.png", b"\x89PNG\r\n\x1a\n"), "1 mask cannot be read"),
    "mask of another size": (mask("nut/masks/dent/0.png", 5, 6), "0.png: 6 x 5 pixels; the image has 12 x 10"),
    "mask without a defect": (mask("nut/masks/dent/0.png", defect=False), "1 mask of a defective image has no defect"),
    "one missing mask": (removed("nut/masks/dent/0.png"), "1 defective image has no mask"),
    "no masks at all": (removed("nut/masks"), None),
    "two masks of one image": (mask("nut/masks/dent/0.bmp"), "0.bmp and 0.png are masks of the same image"),
    "name of 251 letters": (image(f"nut/train/{'x' * 251}.png"), "1 image has a name that results cannot have"),
    "category with a path variable": (moved("nut", "n<u>t"), "contains '<'"),
    "category with a wildcard": (moved("nut", "n{u}t"), "contains '{'"),
    "no images in a split": (
        removed(*(f"bolt/test/{n}.png" for n in range(4))),
        "bolt/test: no images in data where layout 'folder' has them",
    ),
    "images beside folders": (image("nut/test/flat.png"), "nut/test: holds images and folders of images (dent)"),
    "no data": (removed("nut", "bolt"), "dataset.root"),
    "resource forks of macOS": (added("nut/train/._0.png", b"\x00\x05\x16\x07"), None),
    "link to nothing": (dangling, "new.png: not a readable image"),
    "folder named like an image": (image("nut/train/new.png/0.png"), None),
    "PNG that claims 4 billion pixels": (bomb, "0.png: not a readable image"),
    "mask of many gray levels": (gray_mask, None),
    "page saved as mask": (added("nut/masks/dent/0.png", b"<!DOCTYPE html>"), "1 mask cannot be read"),
    "split with braces": (changed(dataset={"splits": ["te{s}t"]}), "dataset.splits.0: found 'te{s}t'; expected"),
    "category that ends in a dot": (moved("nut", "nut."), "nut."),
    # Tables of images.
    "table": (in_a_table(""), None),
    "file of a table that is not there": (in_a_table("nut,test,nut/test/9.png,good,\n"), "1 file does not exist"),
    "image listed twice": (in_a_table("nut,test,nut/test/good/0.png,good,\n"), "1 image is listed twice"),
    "unknown label": (in_a_table("nut,test,nut/test/dent/0.png,maybe,\n"), "1 label is unknown"),
    "path out of the root": (in_a_table("nut,test,../a.png,good,\n"), "1 path leads out of dataset.root"),
    "table in Latin-1": (
        in_a_table("nut,test,ü.png,good,\n", "latin-1"),
        "samples.csv, line 10: found the byte 0xfc, which is not UTF-8 ('ü' in Latin-1). Save the file with",
    ),
    "table in UTF-16": (in_a_table("", "utf-16"), "samples.csv: found a file in UTF-16 or UTF-32; expected UTF-8."),
    "table with a byte order mark": (in_a_table("", "utf-8-sig"), None),
    # The config's file.
    "key given twice": (written("\nmerge: {scale: 0.5}\nmerge: {scale: 1.0}\n"), "the key 'merge' is given twice"),
    "Latin-1": (written(b"# f\xfcr\n"), "found the byte 0xfc, which is not UTF-8"),
    "UTF-16": (changed(encoding="utf-16"), "found a file in UTF-16 or UTF-32; expected UTF-8."),
    "UTF-8 with a byte order mark": (changed(encoding="utf-8-sig"), None),
    "tab": (written("\nmerge:\n\tscale: 1\n"), "found a tab; YAML is indented with spaces only"),
    "number as category": (changed(dataset={"categories": [1, 2]}), "dataset.categories.0: found 1; expected"),
    # Options.
    "window of a million": (changed(tiling={"window": 1_000_000}), "tiling.window: found 1000000; expected"),
    "erosion of a million": (changed(binarize={"erosion_size": 10**6}), "binarize.erosion_size: found 1000000"),
    "seed of 65 bits": (changed(inp_former={"seed": 2**64}), "inp_former.seed: found 18446744073709551616"),
    "infinite factor": (changed(binarize={"std_factor": float("inf")}), "binarize.std_factor: found .inf"),
    "unknown category": (changed(dataset={"categories": ["nutt"]}), "Did you mean 'nut'?"),
    "unknown split": (changed(dataset={"splits": ["tset"]}), "Did you mean 'test'?"),
    "unknown category in an override": (
        changed(overrides=[{"where": {"category": "nutt"}, "set": {"merge.scale": 0.5}}]),
        "overrides.0.where.category: 'nutt' matches nothing here.",
    ),
    "override of a shared job": (
        changed(overrides=[{"where": {"split": "test"}, "set": {"inp_former.epochs": 3}}]),
        "overrides.0: inp_former.epochs is read by train",
    ),
    "unknown encoder": (changed(encoder={"name": "dinov9"}), "encoder.name: 'dinov9' is no known encoder."),
    "encoder in Latin-1": (
        encoder_file('{"embed_dim": 8,\n"note": "ü"}'.encode("latin-1")),
        "encoder.name: data/clip.json, line 2: found the byte 0xfc, which is not UTF-8",
    ),
    "no weights": (changed(encoder={"weights": "absent.safetensors"}), "encoder.weights: absent.safetensors"),
    "folder as weights": (weights("w.pth/a", b""), "encoder.weights: data/w.pth is a folder."),
    "empty weights": (weights("w.pth", b""), "data/w.pth is not a readable weights file: it is empty."),
    "page as weights": (
        weights("w.pth", b"<!DOCTYPE html>"),
        "not a readable weights file: it is an HTML page",
    ),
    "pointer as checkpoint of SAM": (
        checkpoint(b"version https://git-lfs.github.com/spec/v1"),
        "it is a Git LFS pointer",
    ),
    "no checkpoint of SAM": (changed(refine={"method": "sam"}), "weights/sam_vit_h_4b8939.pth: does not exist"),
    "no embeddings": (changed(rescore={"method": "rscin", "embeddings": "a.npy"}), "rescore.embeddings: a.npy does"),
    "embeddings of a detector without": (
        changed(rescore={"method": "rscin"}),
        "rescore.embeddings: inp_former has no image embeddings of its own.",
    ),
    "neighborhoods larger than a split": (
        changed(detectors=["musc"], rescore={"neighborhood_sizes": [1, 5]}),
        "rescore.neighborhood_sizes: found [1, 5]; bolt/test has 4 images",
    ),
    "score of a detector without": (changed(score_images={"top_fraction": "own"}), "score_images.top_fraction:"),
    "too many subsets": (changed(detectors=["musc"], musc={"subsets": 3}), "musc.subsets: found 3"),
    "a detector that reads text without CLIP": (
        changed(detectors=["winclip"]),
        "encoder.name: found 'vit_tiny_patch16_224'; winclip needs",
    ),
    "compared with nothing": (changed(report={"compare": ["results/absent"]}), "report.compare: results/absent"),
    "training images that lend some to validation": (changed(binarize={"calibrate": "validation"}), None),
    "a single training image that cannot lend": (cannot_lend, "bolt/validation: no images in data"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "data")
    return tmp_path / "data"


def write_config(path: Path, config: Config) -> None:
    extra, encoding = config.pop("bytes", b""), config.pop("encoding", "utf-8")
    path.write_bytes(yaml.safe_dump(config).encode(encoding) + extra)


def refusals(config: Path, folder: Path) -> str:
    """All that a run of a config says before or in `index`; empty where it goes on to the next stages."""
    try:
        project = Project(load(config), folder / "results")
        check_plan(project)
    except RobisError as error:
        return str(error)
    texts = []
    for category, split in needed_images(project):
        try:
            index_split(
                folder / "samples.parquet",
                project.source,
                category=category,
                split=split,
                hold_out=split in ("train", "validation") and project.hold_out(category),
            )
        except RobisError as error:
            texts.append(str(error))
    return "\n".join(texts)


@pytest.mark.parametrize("name", CASES)
def test_data_check_and_a_run_agree(root: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    spoil, expected = CASES[name]
    config: Config = {
        "dataset": {"layout": "folder", "root": "data", "splits": ["test"]},
        "tiling": {"window": 16},
        "encoder": {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 32},
        "refine": {"method": "none"},
    }
    spoil(root, config)
    write_config(root.parent / "config.yaml", config)
    refusal = refusals(root.parent / "config.yaml", root.parent)
    status = main(["data", "check", "--configfile", "config.yaml", "--threads", "1"])
    reported = capsys.readouterr().err
    assert bool(refusal) == (status == 1) == (expected is not None), refusal + reported
    assert "Traceback" not in reported
    if expected:
        assert expected in refusal and expected in reported
