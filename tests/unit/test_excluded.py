"""`dataset.exclude`: which images take part in nothing, and what is wrong with a table that names none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from robis.cli import main
from robis.config.yaml_files import to_yaml
from robis.datasets.excluded import excluded_images
from robis.datasets.layouts import list_samples
from robis.datasets.samples import Source
from robis.detectors.settings import parse
from robis.errors import ConfigError, DataError
from robis.io.samples import read_samples
from robis.io.tables import write_csv
from robis.workflow.checks import check_plan
from robis.workflow.project import Project
from tests.unit.trees import index, mvtec_ad, write_image

EXCLUDED = ["nut/train/good/003.png", "nut/test/crack/001.PNG"]


def table(path: Path, *images: str) -> str:
    write_csv(path, pd.DataFrame({"rank": range(len(images)), "image": images}))
    return str(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return mvtec_ad(tmp_path / "data")


def project(root: Path, exclude: str | None, **dataset) -> Project:
    values = {"layout": "mvtec_ad", "root": str(root), "splits": ["test"], "exclude": exclude, **dataset}
    return Project(parse({"dataset": values, "refine": {"method": "none"}}), root.parent / "results")


def test_excluded_images_are_in_no_split(root: Path, tmp_path: Path) -> None:
    source = Source("mvtec_ad", root, exclude=table(tmp_path / "a.csv", *EXCLUDED))
    assert len(list_samples(source, "nut", "train")) == 11
    assert [sample.sample_id for sample in list_samples(source, "nut", "test")] == ["crack/000", "good/000"]
    lent = [list_samples(source, "nut", split, hold_out=True, hold_out_every=3) for split in ("train", "validation")]
    # 11 images: the first, then every third of those that are left.
    assert [sample.sample_id for sample in lent[1]] == ["good/000", "good/004", "good/007", "good/010"]
    assert len(lent[0]) == 7
    samples = read_samples(index(root, "train", exclude=source.exclude))
    assert EXCLUDED[0] not in [sample.image for sample in samples] and len(samples) == 11


@pytest.mark.parametrize(
    ("content", "images"),
    [
        ("image\na.png\n\nb.png\na.png\n", ("a.png", "b.png")),
        ("\ufeffrank;image;reasons\n1;a, b.png;blurred\n2; c.png;\n", ("a, b.png", "c.png")),
        ("image\n'=sum.png\n'quoted.png\n", ("=sum.png", "'quoted.png")),
        ("rank,image\n1\n", ()),
    ],
)
def test_the_column_image_counts(tmp_path: Path, content: str, images: tuple[str, ...]) -> None:
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    assert excluded_images(Source("folder", tmp_path, exclude=str(tmp_path / "a.csv"))) == images


def test_a_table_that_changed_is_read_again(tmp_path: Path) -> None:
    source = Source("folder", tmp_path, exclude=table(tmp_path / "a.csv", "a.png"))
    assert excluded_images(source) == ("a.png",)
    table(tmp_path / "a.csv", "b.png", "c.png")
    assert excluded_images(source) == ("b.png", "c.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"dataset\.exclude: .*a\.csv: cannot be read \(No such file or directory\)\. Expected a CSV with the"),
        (b"file\na.png\n", r"a\.csv: no column 'image'; found file\."),
        (b"", r"a\.csv: no column 'image'; found nothing\."),
        (b"image,image\na.png,b.png\n", r"a\.csv: more than one column 'image'; expected one each\."),
        (b"image\n\xe4.png\n", r"a\.csv, line 2: found the byte 0xe4, which is not UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        excluded_images(Source("folder", tmp_path, exclude=str(tmp_path / "a.csv")))


def test_a_plan_names_paths_that_are_no_images(root: Path, tmp_path: Path) -> None:
    check_plan(project(root, table(tmp_path / "a.csv", *EXCLUDED)))
    message = r"a\.csv names 1 of 2 paths .*\n  'nut/train/good/03\.png'\. Did you mean 'nut/train/good/003\.png'\?"
    with pytest.raises(ConfigError, match=message):
        check_plan(project(root, table(tmp_path / "a.csv", "nut/train/good/03.png", EXCLUDED[1])))


def test_a_path_of_a_category_that_is_not_run_is_no_mistake(root: Path, tmp_path: Path) -> None:
    write_image(root / "bolt" / "train" / "good" / "0.png")
    check_plan(project(root, table(tmp_path / "a.csv", "bolt/train/good/0.png"), categories=["nut"]))


def test_no_split_may_lose_all_of_its_images(root: Path, tmp_path: Path) -> None:
    every = [sample.image for sample in list_samples(Source("mvtec_ad", root), "nut", "train")]
    with pytest.raises(ConfigError, match=r"a\.csv leaves out all 12 images of nut/train\. Keep some of them"):
        check_plan(project(root, table(tmp_path / "a.csv", *every)))


def test_only_the_split_that_loses_an_image_is_stale(root: Path, tmp_path: Path) -> None:
    before, after = project(root, None), project(root, table(tmp_path / "a.csv", EXCLUDED[1]))
    moved = project(root, table(tmp_path / "b.csv", EXCLUDED[1]))
    for stage in ("index", "crop"):
        of = {
            split: [repr(one.params(stage, category="nut", split=split)) for one in (before, after, moved)]
            for split in ("train", "test")
        }
        assert len(set(of["train"])) == 1
        assert of["test"][0] != of["test"][1] == of["test"][2]
    assert replace(after.source, exclude=None) == before.source


def test_data_check_counts_them_and_takes_them_for_used(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(root / "nut" / "train" / "good" / "copy.png", value=7)
    write_image(root / "nut" / "test" / "good" / "copy.png", value=7)
    values = {"layout": "mvtec_ad", "root": str(root), "splits": ["test"]}
    config = tmp_path / "config.yaml"

    def checked(**dataset: str) -> str:
        config.write_text(to_yaml({"dataset": values | dataset, "refine": {"method": "none"}}))
        assert main(["data", "check", "--configfile", str(config)]) == 0
        return capsys.readouterr().out

    assert "1 image to inspect is also one to learn from" in checked()
    said = checked(exclude=table(tmp_path / "a.csv", *EXCLUDED, "nut/train/good/copy.png"))
    assert f"Images left out by dataset.exclude ({tmp_path / 'a.csv'}): 3" in said
    assert "also one to learn from" not in said and "not used" not in said and "belongs to no image" not in said
