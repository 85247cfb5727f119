"""Verdicts of reviewers: read, joined, and made a sample table with masks."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from robis.cli import main
from robis.datasets.allowed import read_allowed
from robis.datasets.layouts import list_samples
from robis.datasets.samples import Source
from robis.errors import DataError
from robis.io.images import read_mask
from robis.io.maps import write_mask
from robis.workflow.verdict_files import COLUMNS, Decisions, Regions, Verdict, decide, read_verdicts
from tests.unit import trees
from tests.unit.trees import write_image

BOX = (4, 4, 8, 8)
OTHER = (20, 8, 4, 4)
NEXT = ("--out", "next")


def said(name: str, verdict: str, box: tuple[int, int, int, int] | None = None, run: str = "superadd") -> Verdict:
    return Verdict(("nut", "test", name), run if box else "", box, verdict, "verdicts.csv, line 2")


def test_an_image_follows_its_verdict_and_else_its_regions() -> None:
    decisions = decide(
        [
            *(said("a", "good"), said("b", "false alarm"), said("c", "defect"), said("d", "missed")),
            *(said("e", "defect", BOX), said("e", "false alarm", OTHER), said("e", "defect", BOX, "musc")),
            *(said("f", "unsure"), said("g", "false alarm", BOX), said("h", "")),
            *(said("i", "good"), said("i", "defect", BOX)),
            *(said("j", "good"), said("j", "defect"), said("k", "good"), said("k", "good")),
            *(said("l", "defect"), said("l", "false alarm", BOX)),
        ]
    )
    key = lambda name: ("nut", "test", name)  # noqa: E731
    assert decisions == Decisions(
        good=[key("a"), key("b"), key("k")],
        defective=[key("c"), key("d"), key("e"), key("l")],
        regions={
            **{key(name): {} for name in "abcdfk"},
            key("e"): {"superadd": Regions([BOX], [OTHER]), "musc": Regions([BOX])},
            key("g"): {"superadd": Regions([], [BOX])},
            key("l"): {"superadd": Regions([], [BOX])},
        },
        open={
            key("f"): "unsure",
            key("g"): "no verdict on the image, and on no region defect",
            key("i"): "the image is judged good, but a region of it defect",
            key("j"): "reviewers differ: defect and good",
        },
    )


def write(path: Path, *lines: tuple[str, ...]) -> Path:
    """A file of verdicts: sample id, verdict, and perhaps run and box."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for name, verdict, *region in lines:
            run, box = (region[0], region[1]) if region else ("", ("",) * 4)
            writer.writerow(["nut", "test", name, run, *box, verdict, 'a "note", long', "Ü"])
    return path


def test_files_of_the_report_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "verdicts.csv", ("a, b", "defect"), ("ü", "false alarm", "superadd", BOX))
    assert read_verdicts(path) == [
        Verdict(("nut", "test", "a, b"), "", None, "defect", f"{path}, line 2"),
        Verdict(("nut", "test", "ü"), "superadd", BOX, "false alarm", f"{path}, line 3"),
    ]


def test_files_of_spreadsheets_are_read(tmp_path: Path) -> None:
    """Semicolons, a byte order mark, an empty row, and a note with a line separator of Unicode."""
    path = write(tmp_path / "verdicts.csv", ("a", "defect"), ("b", "good"))
    text = path.read_text(encoding="utf-8").replace('"a ""note"", long"', "two\u2028lines").replace(",", ";")
    path.write_text(f"\ufeff{text}{';' * 10}\n", encoding="utf-8")
    assert [(verdict.image[2], verdict.verdict) for verdict in read_verdicts(path)] == [("a", "defect"), ("b", "good")]
    path.write_text(text + "x" * 200_000, encoding="utf-8")
    with pytest.raises(DataError, match=r"cannot be read.*field larger"):
        read_verdicts(path)


def test_a_verdict_without_a_box_is_on_the_image_whatever_its_run(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    path.write_text(f"{','.join(COLUMNS)}\nnut,test,a,superadd,,,,,good,,\nnut,test,a,,,,,,defect,,\n")
    decisions = decide(read_verdicts(path))
    assert decisions.open == {("nut", "test", "a"): "reviewers differ: defect and good"} and not decisions.good


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("defect", "defekt", "line 2: verdict 'defekt'.*Did you mean 'defect'"),
        ("superadd,4,", "superadd,-4,", "line 3: found the box -4, 4, 8, 8; expected four whole numbers"),
        ("superadd,4,", "superadd,,", "line 3: found the box , 4, 8, 8"),
        ("superadd,4,", ",4,", "line 3: a box, but the column run is empty; expected the run whose mask"),
        ("sample_id", "image", "no column 'sample_id'; found .* Expected verdicts.csv, saved in a report"),
    ],
)
def test_mistakes_in_files_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "verdicts.csv", ("a", "defect"), ("b", "unsure", "superadd", BOX))
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_verdicts(path)
    with pytest.raises(DataError, match=r"none.csv: cannot be read \(No such file"):
        read_verdicts(tmp_path / "none.csv")


CONFIG = "dataset: {name: parts, layout: folder, root: parts, splits: [test]}\ndetectors: [inp_former, superadd]\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five unlabeled images, a training image, and final masks of a run at half the size; the current folder."""
    root = tmp_path / "parts"
    for name in ("train/0.png", "test/0.png", "test/1.png", "test/2.png", "test/3.png", "test/4.png"):
        write_image(root / "nut" / name, height=20, width=30)
    (tmp_path / "parts.yaml").write_text(CONFIG)
    mask = np.zeros((10, 15), bool)
    mask[2:6, 2:6] = mask[4:6, 10:12] = True
    for number in range(5):
        final = mask if number < 4 else mask & False
        write_mask(tmp_path / f"results/parts/superadd/anomaly_images_thresholded/nut/test/{number}.png", final)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def apply(*arguments: str) -> int:
    return main(["review", "apply", *arguments, "--configfile", "parts.yaml"])


def samples(split: str) -> dict[str, tuple[str | None, ...]]:
    source = Source("table", Path("parts"), str(Path("next/samples.csv").resolve()), allow_outside_root=True)
    listed = list_samples(source, "nut", split)
    return {sample.sample_id: (sample.image, sample.label, sample.defect, sample.mask) for sample in listed}


def test_verdicts_become_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run / "a.csv", ("0", "defect"), ("1", "false alarm"), ("2", "good"), ("3", "good"))
    write(run / "b.csv", ("0", "defect"), ("3", "unsure"), ("4", "missed"))
    assert apply("a.csv", "b.csv", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "2 images judged good.",
        "2 images judged defective.",
        "  nut/test: 4 labels changed; its metrics and the report change",
        "1 image unchanged:",
        "  nut/test/3: reviewers differ: good and unsure",
    ]
    assert not Path("next").exists()
    assert apply("a.csv", "b.csv", "--out", "next") == 0
    assert "layout: table\n" in capsys.readouterr().out
    assert samples("test") == {
        "0": ("nut/test/0.png", "anomalous", None, None),
        "1": ("nut/test/1.png", "normal", "good", None),
        "2": ("nut/test/2.png", "normal", "good", None),
        "3": ("nut/test/3.png", None, None, None),
        "4": ("nut/test/4.png", "anomalous", None, None),
    }
    assert set(samples("train")) == {"0"}


def test_good_images_join_the_training_images(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(run / "a.csv", ("0", "good"), ("1", "defect"))
    assert apply("a.csv", "--out", "next", "--to-train") == 0
    assert "1 image judged good, 1 of them join the training images." in capsys.readouterr().out
    assert samples("train") == {
        "0": ("nut/train/0.png", "normal", "good", None),
        "test/0": ("nut/test/0.png", "normal", "good", None),
    }
    assert set(samples("test")) == {"1", "2", "3", "4"}


def test_final_masks_become_ground_truth(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Worked by hand: masks of half the size have regions at (4, 4, 8, 8) and (20, 8, 4, 4) of the image."""
    write(
        run / "a.csv",
        *(("0", "defect"), ("1", "defect", "superadd", OTHER), ("2", "defect"), ("2", "false alarm", "superadd", BOX)),
        *(("3", "defect", "musc", BOX), ("4", "good")),
    )
    assert apply("a.csv", "--out", "next", "--masks", "superadd") == 0
    printed = capsys.readouterr().out
    assert "3 images judged defective, 3 of them get a mask." in printed
    assert "  nut/test/3: its regions are judged in musc, not in superadd" in printed
    small, large = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    small[8:12, 20:24] = True
    large[4:12, 4:12] = True
    found = samples("test")
    for name, expected in (("0", small | large), ("1", small), ("2", small)):
        np.testing.assert_array_equal(read_mask(Path("parts", str(found[name][3]))), expected)


def test_false_alarms_count_as_normal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All regions of good images and those that are judged false alarms join what counts as normal already."""
    write(run / "a.csv", ("0", "false alarm"), ("1", "false alarm", "superadd", OTHER), ("2", "defect"), ("4", "good"))
    arguments = ("a.csv", "--allow", "superadd")
    (run / "parts.yaml").write_text(CONFIG)
    assert apply(*arguments, "--out", "next") == 0
    printed = capsys.readouterr().out
    assert "3 false alarms of superadd count as normal from now on." in printed
    assert "  nut: 3 regions; superadd is trained on the category and inspects it again" in printed
    assert f"superadd:\n  allow: {Path('next/allowed.csv')}" in printed
    small, large = np.zeros((2, 20, 30), bool)
    small[8:12, 20:24] = True
    large[4:12, 4:12] = True
    assert regions("next") == {"nut/test/0.png": (small | large).tolist(), "nut/test/1.png": small.tolist()}

    (run / "parts.yaml").write_text(CONFIG + "superadd: {allow: next/allowed.csv}\n")
    write(run / "a.csv", ("1", "unsure"), ("1", "false alarm", "superadd", BOX), ("3", "good"))
    assert apply(*arguments, "--out", "later") == 0
    assert regions("later") == {f"nut/test/{name}.png": (small | large).tolist() for name in (0, 1, 3)}


def regions(folder: str) -> dict[str, list]:
    return {row.image: read_mask(row.mask).tolist() for row in read_allowed(Path(folder, "allowed.csv"), "")}


def test_a_split_has_masks_of_all_defective_images_or_of_none(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("test/cut/7.png", "masks/cut/7.png"):
        (trees.write_mask if "masks" in name else write_image)(run / "parts/nut" / name, height=20, width=30)
    shutil.move(run / "parts/nut/test/0.png", run / "parts/nut/test/cut/8.png")
    trees.write_mask(run / "parts/nut/masks/cut/8.png", height=20, width=30)
    write_image(run / "parts/nut/test/good/9.png")
    for number in range(1, 5):
        (run / f"parts/nut/test/{number}.png").unlink()
    write(run / "a.csv", ("good/9", "missed"), ("cut/8", "good"), ("cut/7", "defect"))
    assert apply("a.csv", "--out", "next") == 0
    assert "nut/test/good/9: needs a mask, since other defective images" in capsys.readouterr().out
    assert samples("test") == {
        "cut/7": ("nut/test/cut/7.png", "anomalous", "cut", "nut/masks/cut/7.png"),
        "cut/8": ("nut/test/cut/8.png", "normal", "good", None),
        "good/9": ("nut/test/good/9.png", "normal", "good", None),
    }


def test_labeled_images_that_need_a_mask_now_are_listed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first mask of a split: its other defective images need one too, also those that nobody judged."""
    for number in range(5):
        folder = "cut" if number == 3 else "unknown"
        (run / f"parts/nut/test/{folder}").mkdir(exist_ok=True)
        shutil.move(run / f"parts/nut/test/{number}.png", run / f"parts/nut/test/{folder}/{number}.png")
    write(run / "a.csv", ("unknown/0", "defect"), ("unknown/1", "good"))
    assert apply("a.csv", "--dry-run", "--masks", "superadd") == 0
    printed = capsys.readouterr().out
    assert "1 image unchanged:\n  nut/test/cut/3: is labeled defective and needs a mask, since other" in printed
    assert apply("a.csv", "--dry-run") == 0
    assert "unchanged" not in capsys.readouterr().out


def test_masks_may_be_those_of_a_run_that_left_the_config(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(run / "results/parts/superadd", run / "results/parts/earlier")
    write(run / "a.csv", ("0", "defect"))
    assert apply("a.csv", "--out", "next", "--masks", "earlier") == 0
    assert samples("test")["0"][3] is not None


@pytest.mark.parametrize(
    ("lines", "arguments", "message"),
    [
        ([("9", "good")], ["--out", "next"], "a.csv, line 2: nut/test/9"),
        ([("0", "good")], [], "--out: expected a folder to write, or --dry-run"),
        (
            [("4", "defect")],
            ["--out", "next", "--masks", "superadd"],
            "4.png: marks nothing, though the image is judged",
        ),
        (
            [("0", "defect", "superadd", (1, 1, 2, 2))],
            ["--out", "next", "--masks", "superadd"],
            "no region at (1, 1, 2, 2)",
        ),
        (
            [("0", "good")],
            ["--out", "next", "--allow", "musc"],
            "--allow: found 'musc'; expected a run with a memory bank",
        ),
        (
            [(str(number), "good") for number in range(5)],
            ["--out", "next", "--to-train"],
            "--to-train: all images of nut/test are judged good, so that none is left to inspect",
        ),
        ([("0", "defect")], ["--dry-run", "--masks", "superad"], "--masks: found 'superad'; expected a run with final"),
        (
            [("0", "defect")],
            ["--out", "next", "--masks", "inp_former"],
            "inp_former/anomaly_images_thresholded/nut/test/0.png",
        ),
    ],
)
def test_reviews_that_cannot_be_applied_leave_nothing(
    lines: list[tuple], arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(run / "a.csv", *lines)
    before = sorted(path.name for path in run.iterdir())
    assert apply("a.csv", *arguments) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in run.iterdir()) == before
