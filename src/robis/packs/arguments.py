"""The commands of packs, `robis inspect` and `robis export`: their arguments. Quick to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from robis.errors import DataError
from robis.io.names import on_disk

PACK = "its folder: results/NAME/DETECTOR/packs/CATEGORY"


def add_commands(commands: Any) -> None:
    """Add both commands to the subparsers of a parser."""
    _add_inspect(commands)
    _add_export(commands)


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="masks and verdicts of single images, or of a folder that fills up, by a pack of `snakemake packs`",
        description="Exit status: 0 all images are normal, 10 some are anomalous, 1 some could not be inspected, "
        "2 wrong arguments. Without images it says what the pack is, and whether its masks equal the run's.",
    )
    inspect.add_argument("pack", type=_path, help=PACK)
    inspect.add_argument("images", type=_path, nargs="*", metavar="IMAGE", help="images, or folders of images")
    inspect.add_argument("--out", type=Path, help="folder for maps (TIFF), masks (PNG) and results (JSON lines)")
    inspect.add_argument(
        "--watch", type=Path, metavar="DIR", help="inspect each image that comes into DIR once, until Ctrl-C; see --out"
    )
    inspect.add_argument("--json", action="store_true", help="print JSON lines")
    inspect.add_argument("--any-size", action="store_true", help="accept images of very different sizes")
    inspect.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    inspect.add_argument(
        "--runtime",
        choices=("torch", "onnx"),
        default="torch",
        help="what computes tile maps: the library, or ONNX Runtime from the file of `robis export` "
        "(default: %(default)s)",
    )
    inspect.add_argument("--exported", type=_path, metavar="FILE", help="the file of `robis export`, if elsewhere")
    _add_common(inspect)
    inspect.set_defaults(run=_inspect)


def _add_export(commands: Any) -> None:
    export = commands.add_parser(
        "export",
        help="a pack's encoder and detector as an ONNX file, for `robis inspect --runtime onnx`",
        description="Writes an ONNX file from tiles to raw tile maps, and compares it with the library: tile maps, and "
        "masks of whole images.",
    )
    export.add_argument("pack", type=_path, help=PACK)
    export.add_argument(
        "images", type=_path, nargs="*", metavar="IMAGE", help="compare on these images or folders (default: generated)"
    )
    export.add_argument("--format", choices=("onnx",), default="onnx", help="default: %(default)s")
    export.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: pack.onnx in the pack)")
    _add_common(export)
    export.set_defaults(run=_export)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, help="threads of a CPU (default: one per core)")
    parser.add_argument("--encoder-weights", type=_path, metavar="FILE", help="the encoder's weights, if elsewhere")


def _inspect(options: argparse.Namespace) -> int:
    from robis.packs.command import InspectOptions, inspect_images, watch_folder
    from robis.packs.pack import load_pack

    _check_threads(options)
    if options.images and options.watch:
        raise DataError("--watch: takes no IMAGE. Give images, or a folder to watch.")
    if not options.images and not options.watch:
        _say_what_it_is(options)
        return 0
    pack = load_pack(
        options.pack,
        device=options.device,
        threads=options.threads,
        encoder_weights=options.encoder_weights,
        runtime=options.runtime,
        exported=options.exported,
    )
    how = InspectOptions(options.out, options.json, options.any_size)
    if options.watch:
        return watch_folder(pack, options.watch, how)
    return inspect_images(pack, options.images, how)


def _say_what_it_is(options: argparse.Namespace) -> None:
    from robis.packs.command import about
    from robis.packs.exported import EXPORTED, read_description
    from robis.packs.format import read_manifest

    manifest = read_manifest(options.pack)
    print(manifest.model_dump_json() if options.json else about(manifest))
    if options.runtime == "onnx":
        exported = read_description(options.exported or options.pack / EXPORTED, manifest)
        print(exported.model_dump_json() if options.json else exported.check.in_words())


def _export(options: argparse.Namespace) -> None:
    from robis.packs.command import listed
    from robis.packs.export import export_pack

    _check_threads(options)
    images = [file for image in options.images for file, _ in listed(image)]
    file, check = export_pack(
        options.pack, options.out, images, threads=options.threads, encoder_weights=options.encoder_weights
    )
    print(f"Wrote {file} ({file.stat().st_size / 1e6:.1f} MB). {check.in_words()}")


def _path(text: str) -> Path:
    return on_disk(Path(text))


def _check_threads(options: argparse.Namespace) -> None:
    if options.threads is not None and options.threads < 1:
        raise DataError(f"--threads: found {options.threads}; expected 1 or more.")
