"""The commands `robis export labels`, `import labels` and `review apply`: their arguments. Quick to import."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robis.errors import DataError, first_few
from robis.io.names import composed, on_disk

if TYPE_CHECKING:
    from robis.config.settings import SharedSettings
    from robis.workflow.review import Review

FORMATS = ("coco", "yolo-seg", "labelme", "label-studio", "cvat")
# Commands of two words, beside `robis export PACK`.
EXPORT, IMPORT = "export labels", "import labels"


def add_commands(commands: Any, settings_of: Callable[[argparse.Namespace], SharedSettings]) -> None:
    """Add the commands to the subparsers of a parser.

    Args:
        commands: the subparsers.
        settings_of: reads the config that `--configfile` names.
    """
    _add_export(commands)
    read = commands.add_parser(
        IMPORT,
        help="label files of annotation tools as ground truth: masks, and a table for the layout `table`",
        description="Images of the file without a region become good ones; images that it does not name keep their "
        "labels and masks.",
    )
    read.add_argument("labels", type=_path, help="the file, or the folder with a file per image")
    read.add_argument("--format", choices=FORMATS, required=True, help="what wrote it")
    _add_config(read)
    read.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write: samples.csv, masks/")
    read.set_defaults(run=lambda options: _import(options, settings_of(options)))
    review = commands.add_parser("review", help="use verdicts of people").add_subparsers(
        required=True, metavar="COMMAND"
    )
    apply = review.add_parser(
        "apply",
        help="make a sample table for the next run of verdicts.csv, which the report saves",
        description="Prints what changes, then writes a table for the layout `table`. Reviewers who differ are listed.",
    )
    apply.add_argument("verdicts", type=_path, nargs="+", help="verdicts.csv, of one reviewer or several")
    _add_config(apply)
    apply.add_argument("--out", type=Path, metavar="FOLDER", help="folder to write: samples.csv, masks/")
    apply.add_argument("--to-train", action="store_true", help="images judged good join the training images")
    apply.add_argument("--masks", metavar="RUN", help="final masks of this run become masks of images judged defective")
    apply.add_argument(
        "--allow",
        metavar="RUN",
        help="false alarms of this run, which has a memory bank, count as normal from now on: allowed.csv, allowed/",
    )
    apply.add_argument("-n", "--dry-run", action="store_true", help="print what would change, and write nothing")
    apply.set_defaults(run=lambda options: _apply_review(options, settings_of(options)))


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        EXPORT,
        help="final masks or ground truth for annotation tools: COCO, YOLO, labelme, Label Studio, CVAT",
        description="Each region becomes one label, in pixels of the image as it is shown. docs/labels.md says how "
        "each tool opens its file.",
    )
    export.add_argument("results", type=_path, help="results folder of a data set, e.g. results/demo")
    export.add_argument("--format", choices=FORMATS, required=True)
    export.add_argument("--out", type=Path, help="file or folder to write (default: labels.json, labels.xml, ...)")
    export.add_argument("--run", dest="detector", metavar="RUN", help="whose masks, if there are several runs")
    export.add_argument("--category", type=composed, help="default: all")
    export.add_argument("--split", type=composed, help="default: all")
    export.add_argument("--ground-truth", action="store_true", help="the ground truth instead of final masks")
    export.add_argument("--root", type=_path, help="with --ground-truth: folder of the data set")
    export.add_argument(
        "--shapes",
        choices=("masks", "polygons"),
        help="masks: run lengths or pictures, exact. polygons: along the edges of pixels, holes joined by a line. "
        "Default: masks for coco, cvat and label-studio; polygons for labelme and yolo-seg",
    )
    export.add_argument(
        "--tolerance", type=float, default=0.0, help="pixels by which polygons may be simplified (default: 0, exact)"
    )
    export.add_argument("--image-prefix", default="", help="put before the path of each image, e.g. an address")
    export.set_defaults(run=_export)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile", type=Path, help="config whose `dataset` has the images (default: config/config.yaml)"
    )


def _path(text: str) -> Path:
    return on_disk(Path(text))


def _export(options: argparse.Namespace) -> None:
    from robis.labels.files import Drawing
    from robis.labels.formats import FORMATS as BY_NAME
    from robis.workflow.exported_labels import Choice, export_labels

    if not 0 <= options.tolerance <= 100:
        raise DataError(f"--tolerance: found {options.tolerance:g}; expected 0 to 100 pixels.")
    drawing = Drawing(options.shapes or BY_NAME[options.format].shapes[0], options.tolerance, options.image_prefix)
    choice = Choice(options.ground_truth, options.detector, options.category, options.split, options.root)
    written = export_labels(options.results, options.format, options.out, choice, drawing)
    print(
        f"Wrote {written.target}: {_count(written.regions, 'region')} in {written.marked} of "
        f"{_count(written.images, 'image')}."
    )


def _import(options: argparse.Namespace, settings: SharedSettings) -> None:
    from robis.workflow.imported_labels import import_labels

    written = import_labels(options.labels, options.format, settings, options.out)
    defects = ", ".join(f"{name} {count}" for name, count in written.defects.items())
    named = f" ({defects})" if defects else ""
    print(
        f"Wrote {written.table}: {_count(sum(written.defects.values()), 'defective image')}{named}, "
        f"{written.good} good, {written.unchanged} as before. {_use({'dataset': written.dataset})}"
    )
    if written.without_mask:
        print(
            f"\n{_count(len(written.without_mask), 'defective image')} without a mask, though others of the same split "
            f"have one. The next run needs all or none. Draw these too, and import them with the others:\n"
            f"{first_few(written.without_mask)}"
        )


def _apply_review(options: argparse.Namespace, settings: SharedSettings) -> None:
    from robis.workflow.review import Wishes, apply_review, plan_review
    from robis.workflow.sample_table import TABLE

    if options.out is None and not options.dry_run:
        raise DataError("--out: expected a folder to write, or --dry-run.")
    wishes = Wishes(options.masks, options.to_train, options.allow)
    review = plan_review(options.verdicts, settings, wishes)
    print("\n".join(_review_in_words(review, options.allow)))
    if not options.dry_run:
        sections = apply_review(review, settings, options.out, wishes)
        print(f"Wrote {options.out / TABLE}. {_use(sections)}")


def _review_in_words(review: Review, allow_of: str | None) -> Iterator[str]:
    joined = f", {len(review.joined)} of them join the training images" if review.joined else ""
    yield f"{_count(len(review.good), 'image')} judged good{joined}."
    masks = f", {len(review.masks)} of them get a mask" if review.masks else ""
    yield f"{_count(len(review.defective), 'image')} judged defective{masks}."
    for (category, split), count in review.changed.items():
        yield f"  {category}/{split}: {_count(count, 'label')} changed; its metrics and the report change"
    for category in dict.fromkeys(category for category, _, _ in review.joined):
        yield f"  {category}: another training set; the category is trained and inspected again"
    if allow_of:
        yield from _allowed_in_words(review, allow_of)
    if review.open:
        yield f"{_count(len(review.open), 'image')} unchanged:"
        yield from (f"  {'/'.join(image)}: {reason}" for image, reason in review.open.items())


def _allowed_in_words(review: Review, run: str) -> Iterator[str]:
    regions = Counter[str]()
    for (category, _, _), (count, _) in review.allowed.items():
        regions[category] += count
    verb = "counts" if regions.total() == 1 else "count"
    yield f"{_count(regions.total(), 'false alarm')} of {run} {verb} as normal from now on."
    for category, count in regions.items():
        yield f"  {category}: {_count(count, 'region')}; {run} is trained on the category and inspects it again"


def _use(sections: Mapping[str, Any]) -> str:
    from robis.config.yaml_files import to_yaml

    return f"Use it with\n\n{to_yaml(dict(sections), width=4096).rstrip()}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
