"""Layouts: which images a category and split hold, their labels and their masks.

A layout is one function and one entry in `LAYOUTS`. The function lists the samples of a category's
split from names alone; no image is opened, so that a plan over thousands of categories stays quick.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robis.datasets import problems
from robis.datasets.excluded import without_excluded
from robis.datasets.folders import below, has_images, images_in, subfolder, subfolders
from robis.datasets.ignored import folder_of_masks, with_ignored
from robis.datasets.listed import TABLE, VISA, listed_categories, listed_files, listed_splits, read_listed
from robis.datasets.masks import Masks
from robis.datasets.problems import Problem, ProblemsError
from robis.datasets.samples import ANOMALOUS, LEARNED, NORMAL, Sample, Source
from robis.datasets.words import folded, is_anomalous, is_mask_folder, is_normal, is_unknown
from robis.errors import DataError
from robis.io.names import composed, folder_problem, id_problem


def _always(source: Source, category: str, samples: Sequence[Sample]) -> bool:
    return True


def _nowhere(source: Source, category: str) -> list[Path]:
    return []


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk.

    Attributes:
        splits: names of the splits, or a function of the source that gives them.
        categories: names the categories.
        read: lists the samples of a category's split, none where the category does not have it.
        expects: what lies below the root, in words.
        has_masks: whether every defective image of a category has a mask; without masks there are no pixel metrics.
        reads: where images and masks lie, in words, for messages about files that are not read.
        mask_name: the path of an image's mask below its category, in words; empty where a table names it.
        mask_folders: the folders of a category whose images are masks.
        listed_files: where a table lists the images, gives all files that it names; None otherwise.
    """

    splits: tuple[str, ...] | Callable[[Source], list[str]]
    categories: Callable[[Source], list[str]]
    read: Callable[[Source, str, str], list[Sample]]
    expects: str
    has_masks: Callable[[Source, str, Sequence[Sample]], bool] = _always
    reads: str = ""
    mask_name: str = ""
    mask_folders: Callable[[Source, str], list[Path]] = _nowhere
    listed_files: Callable[[Source], set[str]] | None = None


# The samples of a category by split.
Listed = dict[str, list[Sample]]


def category_folder(source: Source, category: str) -> Path:
    """The folder of a category, as the disk spells it."""
    exact = source.root / category
    # A root may hold thousands of categories: it is listed only for a name in another form of Unicode.
    return exact if category.isascii() or exact.is_dir() else subfolder(source.root, category)


def _sample(root: Path, split_folder: Path, image: Path, **labels: str | None) -> Sample:
    sample_id = composed(below(image, split_folder).rpartition(".")[0])
    return Sample(sample_id, below(image, root), **labels)


def _normal(root: Path, split_folder: Path, *folders: Path, nested: bool = False) -> list[Sample]:
    return [
        _sample(root, split_folder, image, label=NORMAL, defect="good")
        for folder in folders
        for image in images_in(folder, nested=nested)
    ]


def _normal_folders(split_folder: Path) -> list[Path]:
    return subfolders(split_folder, is_normal)


def _folders_with(*marks: str) -> Callable[[Source], list[str]]:
    """Categories are the folders, hidden ones left out, that hold one of the given folders."""
    wanted = {folded(mark) for mark in marks}

    def categories(source: Source) -> list[str]:
        folders = subfolders(source.root)
        names = [folder.name for folder in folders if subfolders(folder, lambda name: folded(name) in wanted)]
        for name in names:
            if reason := folder_problem(composed(name)):
                raise DataError(
                    f"{source.root}: the folder {name!r} {reason}. Results are named after a category. Rename it."
                )
        by_name: dict[str, str] = {}
        for name in names:
            if (other := by_name.setdefault(composed(name), name)) != name:
                raise DataError(
                    f"{source.root}: the folders {other!r} and {name!r} have the same name in two forms of Unicode. "
                    f"Rename one of them."
                )
        return sorted(by_name)

    return categories


def _defect_folders(split_folder: Path, *, nested: bool = False) -> list[Path]:
    """Folders with images in them, one per defect; hidden folders and those of masks are none."""
    folders = subfolders(split_folder, lambda name: not is_mask_folder(name))
    return [folder for folder in folders if has_images(folder, nested=nested)]


@dataclass(frozen=True)
class _Pairing:
    """How a layout finds the mask of an image: `find` takes its folder below the split, and its stem."""

    find: Callable[[str, str], Path | None]
    nested: bool = False


def _labeled(root: Path, split_folder: Path, pairing: _Pairing) -> list[Sample]:
    """Samples of a split with one folder per defect. A normal image has the mask that is given for it, if any.

    Images of a folder named unknown have no label, no defect and no mask.
    """
    samples = []
    for folder in _defect_folders(split_folder, nested=pairing.nested):
        if is_unknown(folder.name):
            samples += [_sample(root, split_folder, image) for image in images_in(folder, nested=pairing.nested)]
            continue
        normal = is_normal(folder.name)
        label, defect = (NORMAL, "good") if normal else (ANOMALOUS, composed(folder.name))
        for image in images_in(folder, nested=pairing.nested):
            place, _, name = composed(below(image, split_folder)).rpartition("/")
            mask = pairing.find(place, name.rpartition(".")[0])
            relative = below(mask, root) if mask else None
            samples.append(_sample(root, split_folder, image, label=label, defect=defect, mask=relative))
    return samples


def _ground_truth(source: Source, category: str) -> list[Path]:
    return [subfolder(category_folder(source, category), "ground_truth")]


def _ground_truth_of_test_public(source: Source, category: str) -> list[Path]:
    return [subfolder(subfolder(category_folder(source, category), "test_public"), "ground_truth")]


def _mask_folders(source: Source, category: str) -> list[Path]:
    """Those of a category in layout `folder`: beside the splits, or beside the defects."""
    base = category_folder(source, category)
    return [*subfolders(base, is_mask_folder), *subfolders(subfolder(base, "test"), is_mask_folder)]


def _read_good_and_defects(
    source: Source,
    category: str,
    split: str,
    *,
    learned: tuple[str, ...],
    find: Callable[[Masks, str, str], Path | None],
) -> list[Sample]:
    """`C/train/good`, `C/test/DEFECT`, and masks in `C/ground_truth`, which `find` pairs."""
    root, folder = source.root, subfolder(category_folder(source, category), split)
    if split in learned:
        return _normal(root, folder, *_normal_folders(folder))
    if split != "test":
        return []
    return _labeled(root, folder, _Pairing(partial(find, Masks(_ground_truth(source, category)))))


_read_mvtec_ad = partial(
    _read_good_and_defects, learned=("train",), find=lambda masks, place, stem: masks.find(f"{place}/{stem}_mask")
)
_read_mvtec_loco = partial(
    _read_good_and_defects, learned=LEARNED, find=lambda masks, place, stem: masks.find_group(f"{place}/{stem}")
)
_read_btad = partial(
    _read_good_and_defects, learned=("train",), find=lambda masks, place, stem: masks.find(f"{place}/{stem}")
)


def _read_mvtec_ad_2(source: Source, category: str, split: str) -> list[Sample]:
    root, folder = source.root, subfolder(category_folder(source, category), split)
    if split in LEARNED:
        return _normal(root, folder, *_normal_folders(folder))
    if split.startswith("test_private"):
        return [_sample(root, folder, image) for image in images_in(folder)]
    masks = Masks(_ground_truth_of_test_public(source, category))
    return _labeled(root, folder, _Pairing(lambda place, stem: masks.find(f"{place}/{stem}_mask")))


def _read_folder(source: Source, category: str, split: str) -> list[Sample]:
    """`C/train` and `C/validation` flat or with a `good` folder; `C/test` flat (unlabeled) or one folder per defect.

    Images of `C/test/unknown` have no label.

    Images may lie in sub-folders. Masks are optional; where there are any, every defective image has one:
    `masks/DEFECT/STEM.*` or `masks/STEM.*`, with or without `_mask` after the stem, or several in `masks/DEFECT/STEM`.
    """
    root, folder = source.root, subfolder(category_folder(source, category), split)
    if split in LEARNED:
        return _read_learned(root, folder)
    flat = [_sample(root, folder, image) for image in images_in(folder)]
    if not (defects := _defect_folders(folder, nested=True)):
        return flat
    if flat:
        raise DataError(
            f"{folder}: holds images and folders of images ({defects[0].name}). Expected either images alone, "
            f"without labels, or one folder per defect, good, and unknown for images without a label."
        )
    masks = Masks(_mask_folders(source, category))

    def find(place: str, stem: str) -> Path | None:
        in_place = (f"{place}/{stem}", f"{place}/{stem}_mask")
        if mask := masks.find(*in_place) or masks.find_group(f"{place}/{stem}"):
            return mask
        defect = place.partition("/")[0]
        # A mask that names no defect is that of the defective image.
        anywhere = (f"{defect}/{stem}", f"{defect}/{stem}_mask", stem, f"{stem}_mask")
        return None if is_normal(defect) else masks.find(*anywhere)

    return _labeled(root, folder, _Pairing(find, nested=True))


def _read_learned(root: Path, split_folder: Path) -> list[Sample]:
    """Normal images to learn from: those in folders named so, or else all outside of folders of other images."""
    if good := _normal_folders(split_folder):
        return _normal(root, split_folder, *good, nested=True)
    others = (is_anomalous, is_unknown, is_mask_folder)
    folders = subfolders(split_folder, lambda name: not any(is_other(name) for is_other in others))
    return [*_normal(root, split_folder, split_folder), *_normal(root, split_folder, *folders, nested=True)]


def _has_mask_folder(source: Source, category: str, samples: Sequence[Sample]) -> bool:
    return any(has_images(folder, nested=True) for folder in _mask_folders(source, category))


def _has_some_mask(source: Source, category: str, samples: Sequence[Sample]) -> bool:
    return any(sample.mask for sample in samples)


_PER_CATEGORY = "one folder per category, with {} in it"
_TRAIN_OR_TEST = _folders_with("train", "test")
_OF_TRAIN_OR_TEST = _PER_CATEGORY.format("train or test")
_MVTEC_AD = Layout(
    ("train", "test"),
    _TRAIN_OR_TEST,
    _read_mvtec_ad,
    _OF_TRAIN_OR_TEST,
    reads="images directly in train/good and test/DEFECT, masks in ground_truth/DEFECT",
    mask_name="ground_truth/DEFECT/STEM_mask.png",
    mask_folders=_ground_truth,
)

LAYOUTS: dict[str, Layout] = {
    "mvtec_ad_2": Layout(
        ("train", "validation", "test_public", "test_private", "test_private_mixed"),
        _folders_with("train", "test_public", "test_private"),
        _read_mvtec_ad_2,
        _PER_CATEGORY.format("train, test_public or test_private"),
        reads="images directly in train/good, validation/good, test_public/DEFECT, test_private and "
        "test_private_mixed, masks in test_public/ground_truth/DEFECT",
        mask_name="test_public/ground_truth/DEFECT/STEM_mask.png",
        mask_folders=_ground_truth_of_test_public,
    ),
    "mvtec_ad": _MVTEC_AD,
    "mpdd": _MVTEC_AD,
    "mvtec_loco": Layout(
        ("train", "validation", "test"),
        _TRAIN_OR_TEST,
        _read_mvtec_loco,
        _OF_TRAIN_OR_TEST,
        reads="images directly in train/good, validation/good and test/DEFECT, masks in ground_truth/DEFECT/STEM",
        mask_name="ground_truth/DEFECT/STEM/000.png",
        mask_folders=_ground_truth,
    ),
    "btad": Layout(
        ("train", "test"),
        _TRAIN_OR_TEST,
        _read_btad,
        _OF_TRAIN_OR_TEST,
        reads="images directly in train/ok, test/ok and test/ko, masks in ground_truth/ko",
        mask_name="ground_truth/ko/STEM.png",
        mask_folders=_ground_truth,
    ),
    "visa": Layout(
        VISA.splits,
        partial(listed_categories, form=VISA),
        partial(read_listed, form=VISA),
        f"{VISA.file} with rows in it",
        reads="images and masks that the table lists",
        listed_files=partial(listed_files, form=VISA),
    ),
    "folder": Layout(
        ("train", "validation", "test"),
        _TRAIN_OR_TEST,
        _read_folder,
        _OF_TRAIN_OR_TEST,
        _has_mask_folder,
        reads="images in train and validation (of their folder good alone where they have it) and in test, masks in "
        "masks or ground_truth",
        mask_name="masks/DEFECT/STEM.png, nor a mask in the other places that docs/datasets.md lists",
        mask_folders=_mask_folders,
    ),
    "table": Layout(
        partial(listed_splits, form=TABLE),
        partial(listed_categories, form=TABLE),
        partial(read_listed, form=TABLE),
        f"{TABLE.file}, or the table that dataset.table names, with rows in it",
        _has_some_mask,
        reads="images and masks that the table lists",
        listed_files=partial(listed_files, form=TABLE),
    ),
}


def list_categories(source: Source) -> list[str]:
    """Names of the categories, sorted. Raises DataError when there is none."""
    root, layout = source.root, LAYOUTS[source.layout]
    if not root.is_dir():
        raise DataError(
            f"dataset.root: {root} is not a folder. Give the folder that holds the data set; "
            f"`robis data demo` writes the demo's."
        )
    categories = layout.categories(source)
    if layout.listed_files is None:
        masks = folder_of_masks(source, list_splits(source))
        categories = [name for name in categories if name != masks]
    if not categories:
        raise DataError(
            f"dataset.root: {root} holds no category of layout {source.layout!r}: expected {layout.expects}."
        )
    return categories


def list_splits(source: Source) -> list[str]:
    """Names of the splits that the layout has, whether or not each category has images in them."""
    splits = LAYOUTS[source.layout].splits
    return list(splits) if isinstance(splits, tuple) else splits(source)


def inspected_splits(source: Source) -> list[str]:
    """Names of the splits that a config may ask for: all but those that models learn from."""
    return [split for split in list_splits(source) if split not in LEARNED]


def list_samples(
    source: Source, category: str, split: str, *, hold_out: bool = False, hold_out_every: int | None = None
) -> list[Sample]:
    """The samples of one split without the excluded ones, sorted by id, from names alone.

    With `hold_out`, a category without validation images lends a tenth of its training images to its validation
    split, and its train split goes without them (`held_out`). With `hold_out_every` it lends every so many of them,
    and they replace the validation images that it has.

    Raises DataError (ProblemsError) that lists the images whose results would share a name, or that no result can be
    named after, and the masks of more than one image.
    """
    read = _read
    samples = without_excluded(source, read(source, category, split))
    if split in LEARNED and (hold_out_every or (hold_out and not read(source, category, "validation"))):
        train = without_excluded(source, read(source, category, "train"))
        lent = held_out(category, [sample.sample_id for sample in train], hold_out_every)
        samples = [sample for sample in train if (sample.sample_id in lent) == (split == "validation")]
    samples.sort(key=lambda sample: sample.sample_id)
    if wrong := [*_unusable_ids(samples), *_shared_ids(samples), *_shared_masks(samples)]:
        raise ProblemsError(f"{category}/{split}", wrong)
    return samples


def held_out(category: str, sample_ids: Sequence[str], every: int | None = None) -> set[str]:
    """The training images of a category that validate instead; none of a single image.

    With `every`, those whose number is a multiple of it, the images sorted by id and counted from 0. Otherwise a tenth
    of them, rounded up, those with the lowest SHA-256 of `CATEGORY/SAMPLE_ID`: one image more or less exchanges at most
    one.
    """
    if len(sample_ids) < 2:
        return set()
    if every:
        return set(sorted(sample_ids)[::every])
    by_hash = sorted(sample_ids, key=lambda name: hashlib.sha256(f"{category}/{name}".encode()).digest())
    return set(by_hash[: -(-len(by_hash) // 10)])


def list_category(source: Source, category: str) -> Listed:
    """The samples of a category by split, nothing held out or excluded; a split that cannot be listed is left out."""
    listed: Listed = {}
    for split in list_splits(source):
        with suppress(DataError):
            listed[split] = _read(source, category, split)
    return listed


def _read(source: Source, category: str, split: str) -> list[Sample]:
    """The samples that lie in a split, each with its mask of ignored pixels where there is one."""
    return with_ignored(source, category, split, LAYOUTS[source.layout].read(source, category, split))


def _unusable_ids(samples: Sequence[Sample]) -> list[Problem]:
    reasons = [(sample.image, id_problem(sample.sample_id)) for sample in samples]
    return [Problem(problems.FILE_NAME, f"{image!r} {reason}") for image, reason in reasons if reason]


def _shared_ids(samples: Sequence[Sample]) -> list[Problem]:
    by_id: dict[str, str] = {}
    wrong = []
    for sample in samples:
        if (other := by_id.setdefault(sample.sample_id, sample.image)) != sample.image:
            wrong.append(Problem(problems.SAME_ID, f"{other} and {sample.image}"))
    # The map of `a` is the file a.tiff, which cannot be the folder of another one's, too.
    for sample in samples:
        folder = sample.sample_id.rpartition("/")[0]
        while folder:
            stem, dot, suffix = folder.rpartition(".")
            if dot and suffix in ("tiff", "png") and stem in by_id:
                wrong.append(Problem(problems.SAME_ID, f"{by_id[stem]} and the folder of {sample.image}"))
            folder = folder.rpartition("/")[0]
    return wrong


def _shared_masks(samples: Sequence[Sample]) -> list[Problem]:
    used: dict[str, str] = {}
    wrong = []
    for sample in samples:
        if sample.mask and sample.label != NORMAL:
            other = used.setdefault(sample.mask, sample.image)
            if other != sample.image:
                wrong.append(Problem(problems.ONE_MASK, f"{sample.mask} of {other} and of {sample.image}"))
    return wrong
