"""Names that reach a path of the results: each can be used, or is refused with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import robis
from robis.datasets.ignored import ignore_path
from robis.datasets.layouts import list_categories, list_samples
from robis.datasets.samples import Source
from robis.detectors.settings import parse
from robis.errors import ConfigError, DataError
from robis.io.names import expanded, folder_problem, id_problem, on_disk
from robis.io.samples import read_samples
from tests.unit.trees import index, write_image

LONG = ("one long name " * 15)[:201]
REFUSED_FOLDERS = {
    "a<b>c": "contains '<'",
    "a>": "contains '>'",
    "<logs>": "contains '<'",
    "{x}": "contains '{'",
    "a}": "contains '}'",
    "a\\b": "contains '\\\\'",
    "a\nb": "contains the control character '\\n'",
    "a\tb": "contains the control character '\\t'",
    "a\x7f": "contains the control character '\\x7f'",
    "a\u2028b": "contains the control character '\\u2028'",
    "a.": "ends with a dot",
    "a ": "begins or ends with a space",
    " a": "begins or ends with a space",
    LONG: "is 201 bytes long; at most 200",
    "日本" + "ü" * 19 + LONG[:190]: "is 234 bytes long; at most 200",
    "x" * 20: "ends in 'x' 20 times over",
    "a" + "01" * 20: "ends in '01' 20 times over",
}
USABLE_FOLDERS = (
    *("-x", "--all", "CON", "nul", "a b", "a,b", "a;b", "a|b", "a*b?", "a:b", "a'b\"c", "a$HOME", "~a", "a#b", "100%"),
    *("[a]", "(a)", "a=b", "a&b", "日本", "e\u0301", LONG[:200].strip(), "x" * 19, "a\u00a0b", "a.b", "01"),
)


@pytest.mark.parametrize("name", list(REFUSED_FOLDERS))
def test_a_category_that_results_cannot_be_named_after_is_refused(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name / "test" / "0.png")
    assert REFUSED_FOLDERS[name] in str(folder_problem(name))
    with pytest.raises(DataError) as caught:
        list_categories(Source("folder", tmp_path))
    assert repr(name) in str(caught.value) and REFUSED_FOLDERS[name] in str(caught.value)
    assert str(caught.value).endswith("Results are named after a category. Rename it.")
    for key in ("name", "splits", "categories"):
        with pytest.raises(ConfigError, match=rf"dataset\.{key}.*: found"):
            parse({"dataset": {key: name if key == "name" else [name]}})


@pytest.mark.parametrize("name", USABLE_FOLDERS)
def test_other_categories_are_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write_image(tmp_path / "data" / name / "test" / "-1.png")
    (category,) = list_categories(Source("folder", tmp_path / "data"))
    assert folder_problem(category) is None
    monkeypatch.chdir(tmp_path / "data")
    # A root that is the working directory leaves paths that begin with the category's name.
    (sample,) = list_samples(Source("folder", Path()), category, "test")
    assert (sample.sample_id, sample.image) == ("-1", f"{name}/test/-1.png")
    assert len(read_samples(index(tmp_path / "data", layout="folder", category=category))) == 1


def test_names_of_a_table_are_those_of_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png")
    lines = ['"a<b>c",test,0.png,,', '"nut","a{b",0.png,,', 'nut,"a\nb",0.png,,', f"nut,{LONG},0.png,,"]
    (tmp_path / "samples.csv").write_text("category,split,image,label,mask\n" + "\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        list_categories(Source("table", tmp_path))
    assert str(caught.value).splitlines()[1:] == [
        "4 lines have unusable names. Rename the category or split:",
        "  line 2: category 'a<b>c' contains '<'",
        "  line 3: split 'a{b' contains '{'",
        "  line 5: split 'a\\nb' contains the control character '\\n'",
        f"  line 6: split {LONG!r} is 201 bytes long; at most 200 leave room for the names of results",
    ]


@pytest.mark.parametrize(
    ("stem", "reason"),
    [
        ("x" * 251, "is 251 bytes long; at most 250 leave room"),
        ("ü" * 125 + "x", "is 251 bytes long; at most 250"),
        ("a\nb", "contains the control character '\\n'"),
        ("a\rb", "contains the control character '\\r'"),
        ("\x1b[31mred", "contains the control character '\\x1b'"),
    ],
)
def test_an_image_that_results_cannot_be_named_after_is_refused(tmp_path: Path, stem: str, reason: str) -> None:
    write_image(tmp_path / "data" / "nut" / "test" / f"{stem}.bmp")
    with pytest.raises(DataError) as caught:
        index(tmp_path / "data", layout="folder")
    lines = str(caught.value).splitlines()
    assert lines[:2] == ["nut/test: 1 problem:", "1 image has a name that results cannot have. Rename the files:"]
    assert f"{f'nut/test/{stem}.bmp'!r} {reason}" in lines[2]
    (tmp_path / "data" / "samples.csv").write_text(f'category,split,image,label,mask\nn,t,"nut/test/{stem}.bmp",,\n')
    with pytest.raises(DataError, match="1 image has a name that results cannot have"):
        list_categories(Source("table", tmp_path / "data"))


def test_ids_that_are_too_long_with_their_folders_are_refused(tmp_path: Path) -> None:
    folder = Path(*["y" * 200] * 4)
    assert id_problem((folder / "z").as_posix()) == (
        "is with folders 805 bytes long; at most 800 leave room for the names of results"
    )
    assert id_problem(Path(*["y" * 198] * 4, "z" * 3).as_posix()) is None


@pytest.mark.parametrize("stem", ["x" * 250, "a<b>c", "{x}", "-a", "a.", "a ", " a", "CON", "a\\b", "a|b*?", "e\u0301"])
def test_other_images_are_indexed(tmp_path: Path, stem: str) -> None:
    write_image(tmp_path / "data" / "nut" / "test" / stem[:100] / f"{stem}.png")
    write_image(tmp_path / "data" / "nut" / "test" / "good" / "0.png")
    samples = read_samples(index(tmp_path / "data", layout="folder"))
    assert len(samples) == 2
    for sample in samples:
        result = tmp_path / "maps" / f"{sample.sample_id}.tiff"
        result.parent.mkdir(parents=True)
        result.touch()


def test_a_map_and_a_folder_of_the_same_name_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "nut" / "train" / "a.png")
    write_image(tmp_path / "nut" / "train" / "a.tiff" / "deep" / "b.png")
    with pytest.raises(DataError, match=r"nut/train/a\.png and the folder of nut/train/a\.tiff/deep/b\.png"):
        list_samples(Source("folder", tmp_path), "nut", "train")


def test_paths_are_spelled_as_the_disk_does(tmp_path: Path) -> None:
    composed, decomposed = "\u00fc", "u\u0308"
    (tmp_path / decomposed / "b" / composed).mkdir(parents=True)
    (tmp_path / decomposed / composed).touch()
    path = tmp_path / composed / "b" / decomposed
    assert os.fspath(on_disk(path)) == os.fspath(tmp_path / decomposed / "b" / composed)
    assert on_disk(tmp_path / composed / "gone") == tmp_path / composed / "gone"
    (tmp_path / composed).mkdir()
    assert on_disk(tmp_path / composed) == tmp_path / composed, "what exists stays as it is"


def test_names_in_a_config_are_compared_in_either_form_of_unicode() -> None:
    settings = parse(
        {
            "dataset": {"categories": ["u\u0308"], "splits": ["e\u0301"]},
            "winclip": {"references": ["good/u\u0308"]},
            "overrides": [{"where": {"category": ["u\u0308"], "split": "e\u0301"}, "set": {"merge.scale": 0.5}}],
        }
    )
    assert (settings.dataset.categories, settings.dataset.splits) == (["\u00fc"], ["\u00e9"])
    assert settings.get("winclip.references") == ["good/\u00fc"]
    assert settings.overrides[0].where == {"category": ["\u00fc"], "split": "\u00e9"}


def test_homes_are_filled_in_and_unknown_users_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert (expanded("~/a"), expanded("b/~")) == (tmp_path / "a", Path("b/~"))
    assert expanded("~no_such_user/a") == Path("~no_such_user/a")
    with pytest.raises(DataError, match=r"dataset\.root: ~no_such_user/a is not a folder"):
        list_categories(Source("folder", expanded("~no_such_user/a")))


def test_every_path_that_people_give_is_expanded_so() -> None:
    """`Path.expanduser` ends a run with a traceback where there is no such user."""
    files = [path for path in Path(robis.__file__).parent.rglob("*.py") if "expanduser()" in path.read_text()]
    assert [path.name for path in files] == ["names.py"]


def test_a_name_is_no_home(tmp_path: Path) -> None:
    """An image's name stands for itself in the pattern of its mask of ignored pixels."""
    for name in ("~root", "~root.ignore"):
        write_image(tmp_path / "nut" / "test" / f"{name}.png")
    source = Source("folder", tmp_path, ignore="nut/test/{name}.ignore.png")
    assert [(s.sample_id, s.ignore) for s in list_samples(source, "nut", "test")] == [
        ("~root", "nut/test/~root.ignore.png")
    ]
    source = Source("folder", tmp_path / "nut" / "test", ignore="{name}.png")
    assert ignore_path(source, name="~root") == "~root.png"
