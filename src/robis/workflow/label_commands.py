"""The commands `robis export labels` and `robis import labels`: their arguments. Quick to import."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robis.errors import DataError
from robis.io.names import composed, on_disk

if TYPE_CHECKING:
    from robis.config.settings import SharedSettings

FORMATS = ("coco", "yolo-seg", "labelme", "label-studio", "cvat")
# Commands of two words, beside `robis export PACK`.
EXPORT, IMPORT = "export labels", "import labels"


def add_commands(commands: Any, settings_of: Callable[[argparse.Namespace], SharedSettings]) -> None:
    """Add both commands to the subparsers of a parser.

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
    read.add_argument(
        "--configfile", type=Path, help="config whose `dataset` has the images (default: config/config.yaml)"
    )
    read.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write: samples.csv, masks/")
    read.set_defaults(run=lambda options: _import(options, settings_of(options)))


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


def _path(text: str) -> Path:
    return on_disk(Path(text))


def _export(options: argparse.Namespace) -> None:
    from robis.labels.files import Drawing
    from robis.labels.formats import FORMATS as BY_NAME
    from robis.workflow.labels import Choice, export_labels

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
    from robis.config.yaml_files import to_yaml
    from robis.workflow.labels import import_labels

    written = import_labels(options.labels, options.format, settings, options.out)
    defects = ", ".join(f"{name} {count}" for name, count in written.defects.items())
    print(
        f"Wrote {written.table}: {_count(sum(written.defects.values()), 'defective image')}"
        f"{f' ({defects})' if defects else ''}, {written.normal} good, {written.unchanged} as before. Use it with\n\n"
        f"{to_yaml({'dataset': dict(written.dataset)}).rstrip()}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
