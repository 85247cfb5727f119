"""The `robis` command: small conveniences around the workflow."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from robis import __version__
from robis.errors import DataError, RobisError
from robis.io.names import composed, expanded, on_disk
from robis.packs import arguments as pack_commands
from robis.workflow import label_commands

if TYPE_CHECKING:
    from robis.config.settings import SharedSettings


DEFAULT_CONFIG = Path("config/config.yaml")
# What a shell reports of a command that SIGPIPE or SIGINT ended.
_BROKEN_PIPE, _INTERRUPTED = 128 + 13, 128 + 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns the exit status: 1 for a user's mistake, after its message. A reader of the output that has gone, such as
    `head`, ends the command without a message.
    """
    if arguments is None:
        # Lines about the progress of a long check.
        logging.basicConfig(format="%(message)s")
        logging.getLogger("robis").setLevel(logging.INFO)
    try:
        try:
            return _run(arguments)
        finally:
            # While the output is still in our hands: Python would report its failure at exit in words of its own.
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        return _BROKEN_PIPE
    except OSError as error:
        _discard_output()
        print(f"robis: the output cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        status = options.run(options)
    except RobisError as error:
        print(f"robis: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"robis: {error.filename}: {error.strerror or error}.", file=sys.stderr)
        return 1
    return status or 0


def _joined(arguments: Sequence[str]) -> list[str]:
    """The arguments, with a command of two words as one: argparse knows no `export PACK` beside `export labels`."""
    words = " ".join(arguments[:2])
    return [words, *arguments[2:]] if words in (label_commands.EXPORT, label_commands.IMPORT) else list(arguments)


def _discard_output() -> None:
    """Send what is still buffered for the standard output nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="robis",
        description="Binary defect masks on high-resolution product images.",
    )
    parser.add_argument("--version", action="version", version=f"robis {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="look at a folder of images and write a short config that suits them")
    init.add_argument("folder", type=Path, help="a data set, one category of it, sorted images, or images alone")
    hardware = init.add_mutually_exclusive_group()
    hardware.add_argument("--gpu", action="store_true", default=None, help="choose settings for a GPU")
    hardware.add_argument("--cpu", dest="gpu", action="store_false", help="... for a CPU (default: what is here)")
    init.add_argument("--out", type=Path, help="config to write (default: config/NAME.yaml; NAME.yaml without config/)")
    init.add_argument("--overwrite", action="store_true", help="replace existing files")
    init.set_defaults(run=_init)

    run = commands.add_parser(
        "run",
        help="run the pipeline on a config, in any folder",
        description="Run Snakemake with robis's workflow on a config. Results go to results/ in the current folder.",
    )
    run.add_argument("config", type=_path, help="config file, or the name of one that comes with robis")
    run.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        help="further arguments of snakemake, e.g. -n (show what would run) or --workflow-profile slurm",
    )
    run.set_defaults(run=_run_workflow)
    demo_run = commands.add_parser(
        "demo", help="write generated images to data/demo, run the pipeline on them and print the metrics"
    )
    demo_run.set_defaults(run=_run_demo)

    data = commands.add_parser("data", help="make or check data sets").add_subparsers(required=True, metavar="COMMAND")
    demo = data.add_parser("demo", help="write the generated demo images in any layout")
    demo.add_argument("--out", type=Path, help="folder to write (default: data/demo, or data/demo_LAYOUT)")
    demo.add_argument("--layout", default="mvtec_ad_2", help="as dataset.layout (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="another seed gives other images (default: %(default)s)")
    demo.set_defaults(run=_write_demo)
    check_data = data.add_parser(
        "check", help="say what is in a data set, what it will take, and all that is wrong; runs and writes nothing"
    )
    check_data.add_argument("root", type=Path, nargs="?", help="its folder (default: the config's dataset.root)")
    check_data.add_argument("--layout", help="as dataset.layout (default: the config's, or a guess without one)")
    check_data.add_argument("--table", help="as dataset.table (default: the config's)")
    check_data.add_argument("--outside-root", action="store_true", help="as dataset.allow_outside_root: true")
    check_data.add_argument("--all", action="store_true", help="name every file, not five of a kind")
    check_data.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: %(default)s")
    _add_config(check_data)
    check_data.set_defaults(run=_check_data)

    metrics = commands.add_parser("metrics", help="print the metrics and verdicts of a finished run")
    metrics.add_argument("results", type=_path, help="results folder of a data set, e.g. results/demo")
    metrics.set_defaults(run=_print_metrics)
    timings = commands.add_parser("timings", help="print time and memory of each stage")
    timings.add_argument("results", type=_path, help="results folder of a data set, e.g. results/demo")
    timings.set_defaults(run=_print_timings)
    explain = commands.add_parser("explain", help="what an option means, and what a change of it re-runs")
    explain.add_argument("key", help="dotted key or section, e.g. binarize.std_factor or binarize")
    explain.add_argument("--configfile", type=Path, nargs="+", metavar="FILE", help="config files, as for snakemake")
    explain.set_defaults(run=_explain)

    pack_commands.add_commands(commands)
    label_commands.add_commands(commands, _settings)
    rescore = commands.add_parser("rescore", help="smooth image scores over images that look alike (MuSc's RsCIN)")
    rescore.add_argument("scores", type=_path, help="CSV or Parquet with a column `score`; other columns are kept")
    rescore.add_argument(
        "embeddings", type=_path, help=".npy (images, D) in the same order, or Parquet with `sample_id` and `embedding`"
    )
    rescore.add_argument(
        *("--neighborhood-sizes", "--k"),
        dest="neighborhood_sizes",
        type=int,
        nargs="+",
        default=[1, 2, 3],
        metavar="K",
        help="sizes of the neighborhoods, the image included (default: 1 2 3; published for VisA: 1 8 9)",
    )
    rescore.add_argument("--out", type=Path, help="CSV or Parquet to write (default: print CSV)")
    rescore.set_defaults(run=_rescore)

    config = commands.add_parser("config", help="look at a config").add_subparsers(required=True, metavar="COMMAND")
    show = config.add_parser("show", help="print the effective settings, overrides applied")
    _add_config(show)
    for kind in ("category", "split", "detector"):
        show.add_argument(f"--{kind}", help=f"settings of the jobs of this {kind}")
    show.set_defaults(run=_show_config)

    submission = commands.add_parser("submission", help="look at an upload to the MVTec AD 2 server")
    check = submission.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "check", help="say whether the server would take a folder or archive, of robis or of another tool"
    )
    check.add_argument("path", type=_path, help="a folder, a .tar.gz or a .tar")
    sizes = check.add_mutually_exclusive_group()
    sizes.add_argument("--samples", type=_path, help="compare sizes with the images of a run: results/NAME/samples")
    sizes.add_argument("--root", type=_path, help="compare sizes with the images of a data set: the folder it is in")
    check.add_argument("--scale", type=float, default=0.25, help="size of maps / size of images (default: %(default)s)")
    check.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: %(default)s, one per core")
    check.set_defaults(run=_check_submission)
    return parser


def _path(text: str) -> Path:
    """A path in the disk's own spelling: shells complete names in one form of Unicode, people type another."""
    return on_disk(Path(text))


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configfile", type=Path, help=f"config file (default: {DEFAULT_CONFIG} where it exists, else the defaults)"
    )


def _settings(options: argparse.Namespace) -> SharedSettings:
    """The settings of the config file that is given, of the default one where it exists, or the defaults."""
    from robis.detectors.settings import load, parse

    if options.configfile:
        return load(options.configfile)
    if DEFAULT_CONFIG.is_file():
        return load(DEFAULT_CONFIG)
    print(f"{DEFAULT_CONFIG}: no such file. These are the defaults.", file=sys.stderr)
    return parse({})


def _init(options: argparse.Namespace) -> None:
    from robis.workflow.init import init

    gpu = options.gpu
    if gpu is None:
        import torch

        gpu = torch.cuda.is_available()
    written = init(options.folder, options.out, gpu=gpu, overwrite=options.overwrite)
    print(f"{written.summary}; {'GPU' if gpu else 'CPU'}")
    for text in written.warnings:
        print(f"\n{text}")
    files = f"{written.config} and {written.table}" if written.table else written.config
    config = shlex.quote(str(written.config))
    print(f"\nWrote {files}. Next:\n  robis data check --configfile {config}\n  robis run {config}")


def _run_workflow(options: argparse.Namespace) -> None:
    from robis.workflow.launch import command, replace_process

    replace_process(command(options.config, options.arguments))


def _run_demo(options: argparse.Namespace) -> None:
    from robis.demo.generate import write_demo
    from robis.detectors.settings import load
    from robis.workflow import results
    from robis.workflow.launch import DEMO, demo_command
    from robis.workflow.summary import finished_text

    dataset = load(DEMO).dataset
    write_demo(Path(dataset.root))
    if status := subprocess.run(demo_command()).returncode:
        raise SystemExit(status)
    print(finished_text(Path(results.FOLDER, dataset.name)))


def _explain(options: argparse.Namespace) -> None:
    from robis.detectors.settings import load
    from robis.workflow.explain import explain

    settings = load(*options.configfile) if options.configfile else _settings(options)
    files = options.configfile or ([DEFAULT_CONFIG] if DEFAULT_CONFIG.is_file() else [])
    print(explain(options.key, settings, files))


def _show_config(options: argparse.Namespace) -> None:
    from robis.config.yaml_files import to_yaml
    from robis.detectors.registry import DETECTORS
    from robis.errors import ConfigError, one_of
    from robis.workflow.checks import check_names
    from robis.workflow.project import Project
    from robis.workflow.runs import effective, runs_of

    settings = _settings(options)
    kinds = ("category", "split", "detector")
    chosen = {kind: composed(getattr(options, kind)) for kind in kinds if getattr(options, kind)}
    known = list(dict.fromkeys([*DETECTORS, *runs_of(settings)]))
    if options.detector and options.detector not in known:
        raise ConfigError(
            f"--detector: unknown detector or run {options.detector!r}. {one_of(options.detector, known)}"
        )
    if Path(settings.dataset.root).is_dir():
        project = Project(settings, remembers=False)
        check_names(project, **chosen)
        of_job = project.effective(**chosen)
    else:
        print(f"{settings.dataset.root}: no such folder. Category and split are not checked.", file=sys.stderr)
        detector, category, split = (chosen.get(kind) for kind in ("detector", "category", "split"))
        of_job = effective(settings, detector=detector, category=category, split=split)
    values = of_job.model_dump(mode="json", exclude={"overrides"})
    print(to_yaml(values, default_flow_style=None, width=118), end="")


def _check_submission(options: argparse.Namespace) -> None:
    from robis.submission.check import check_upload
    from robis.submission.sources import upload_of_dataset, upload_of_run
    from robis.submission.upload import Upload, benchmark_ids

    # What it says about damaged files is in the report.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if not 0 < options.scale <= 1:
        raise DataError(f"--scale: found {options.scale:g}; expected above 0 and at most 1.")
    if options.root:
        upload = upload_of_dataset(options.root, options.scale, threads=options.threads)
    elif options.samples:
        upload = upload_of_run(options.samples, options.scale)
    else:
        upload = Upload(benchmark_ids())
    report = check_upload(options.path, upload, threads=options.threads)
    if not report.is_good:
        raise DataError(report.problem_text())
    verdict = "good, nothing is wrong or missing" if upload.is_benchmark else "good, for practice"
    print("\n".join([report.table(), *report.remarks, f"{options.path}: {verdict}."]))


def _write_demo(options: argparse.Namespace) -> None:
    from robis.demo.generate import write_demo

    own_name = "demo" if options.layout == "mvtec_ad_2" else f"demo_{options.layout}"
    out = options.out or Path("data", own_name)
    if options.seed < 0:
        raise DataError(f"--seed: found {options.seed}; expected 0 or more.")
    write_demo(out, seed=options.seed, layout=options.layout)
    print(f"Demo images: {out}")


def _check_data(options: argparse.Namespace) -> None:
    from robis.datasets.check import format_held_out, format_ignored, format_summary
    from robis.datasets.layouts import LAYOUTS
    from robis.datasets.problems import ProblemsError, grouped
    from robis.datasets.samples import Source
    from robis.detectors.settings import load, parse
    from robis.errors import one_of
    from robis.workflow.data_check import check_for_config, check_without_config, format_method

    config = options.configfile or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)
    if config is None and options.root is None:
        raise DataError(f"{DEFAULT_CONFIG}: no such file. Give the data set's folder, or a --configfile that names it.")
    settings = load(config) if config else parse({})
    dataset = settings.dataset
    root, own_root = on_disk(expanded(options.root or dataset.root)), expanded(dataset.root)
    layout = options.layout or dataset.layout
    if layout not in LAYOUTS:
        raise DataError(f"--layout: {layout!r} is unknown. {one_of(layout, LAYOUTS)}")
    if options.layout is None and options.configfile is None and root.resolve() != own_root.resolve():
        layout, root = _guessed(root)
    allow_outside_root = options.outside_root or dataset.allow_outside_root
    limit = None if options.all else 5
    # A config for other data says nothing of the categories and splits that this one needs.
    is_own = config is not None and layout == dataset.layout and root.resolve() == own_root.resolve()
    ignore, exclude = (dataset.ignore, dataset.exclude) if is_own else (None, None)
    source = Source(layout, root, options.table or dataset.table, allow_outside_root, ignore, exclude)
    try:
        if is_own:
            values = {
                "dataset.root": str(root),
                "dataset.table": source.table,
                "dataset.allow_outside_root": allow_outside_root,
            }
            checked = check_for_config(settings.with_values(values), source, threads=options.threads)
        else:
            checked = check_without_config(settings, source, threads=options.threads)
    except ProblemsError as error:
        raise ProblemsError(error.where, error.problems, limit) from error
    tiles = f"{config} makes them" if config else "the default settings make them"
    report = checked.dataset
    print(f"{root}, layout {layout}; tiles as {tiles}\n\n{format_summary(report.summaries)}")
    if ignored := format_ignored(report.summaries):
        print(f"\n{ignored}")
    if report.excluded:
        print(f"\nImages left out by dataset.exclude ({exclude}): {report.excluded}")
    if report.held_out:
        print(f"\n{format_held_out(report.held_out, limit)}")
    if checked.method:
        print(f"\nIn image pixels, with the same settings:\n{format_method(checked.method)}")
    if options.configfile is None and not is_own:
        print(f"\n`robis init {shlex.quote(str(options.root or root))}` writes settings that fit these images.")
    elif checked.advice:
        print(f"\nSettings that do not fit the images:\n{grouped(checked.advice, limit)}")
    if report.remarks:
        print(f"\nUsable, but likely to be mistakes:\n{grouped(report.remarks, limit)}")
    if report.elsewhere:
        print(f"\nIn categories and splits that {config} does not run:\n{grouped(report.elsewhere, limit)}")
    if report.problems:
        raise ProblemsError(str(root), report.problems, limit)
    print("\nNo problems.")


def _guessed(folder: Path) -> tuple[str, Path]:
    """The layout and root of a folder. Raises DataError where no layout fits."""
    from robis.datasets.guess import guess_layout

    guess = guess_layout(folder)
    if guess.table is not None:
        raise DataError(f"{folder}: {guess.reason}, in no layout. `robis init {folder}` writes a table and a config.")
    return guess.layout, guess.root


def _rescore(options: argparse.Namespace) -> None:
    from robis.scoring.rscin import rescore_file

    table = rescore_file(options.scores, options.embeddings, options.neighborhood_sizes, options.out)
    print(f"Re-scored: {options.out}" if options.out else table.to_csv(index=False), end="\n" if options.out else "")


def _print_metrics(options: argparse.Namespace) -> None:
    from robis.workflow.summary import finished_text

    print(finished_text(options.results))


def _print_timings(options: argparse.Namespace) -> None:
    from robis.workflow.stages import STAGES
    from robis.workflow.timings import format_timings, stage_timings

    timings = stage_timings(options.results, STAGES)
    if timings.empty:
        reason = "no job is finished" if options.results.is_dir() else "no such folder"
        raise DataError(
            f"{options.results}: no timings there ({reason}). Expected a results folder, results/NAME, with the "
            f"benchmark files of its jobs."
        )
    print(format_timings(timings))
