"""The report as a whole: page, pictures, figures and tables, made from the files of runs."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd

from robis import __version__
from robis.evaluation.metrics import MEANINGS, METRICS
from robis.io.atomic import atomic_file, atomic_folder
from robis.io.tables import read_table, write_csv
from robis.report import canvas, pictures
from robis.report.audit import audit_parts
from robis.report.canvas import Figure
from robis.report.clusters import cluster_parts
from robis.report.colors import DARK, LIGHT
from robis.report.detectability import detectability_entries
from robis.report.evidence import write_evidence
from robis.report.exports import write_metrics_csv, write_tables
from robis.report.figures import curve_figures, score_figure, size_figure, threshold_figure, training_figure
from robis.report.gallery import Measured, Place, run_file, write_gallery, write_script
from robis.report.images import images_table
from robis.report.inputs import PageFacts, ReportFiles, RunFiles
from robis.report.overlays import write_overlays
from robis.report.overview import FIRST_METRIC, HEADINGS, MEAN, SplitTables, split_tables, without_seeds
from robis.report.packs import pack_sentences
from robis.report.pod import pod_figures
from robis.report.published import comparisons
from robis.report.quality import Statement, statements, summary_text
from robis.report.runs import Group, curves_of, groups_of, known, metrics_of
from robis.report.verdicts import RARE_VERDICTS, VERDICTS, count_verdicts
from robis.report.workbook import write_workbook
from robis.scoring.limits import in_words

# Distributions whose versions say what computed the results, as far as they are installed where the page is made.
PACKAGES = (
    *("torch", "timm", "open_clip_torch", "segment-anything", "numpy", "opencv-python-headless", "pandas"),
    *("pillow", "numba", "snakemake"),
)


def build_report(
    runs: Sequence[RunFiles],
    outputs: ReportFiles,
    facts: PageFacts,
    *,
    images: int,
    vis: str = "split",
    overlays: bool = False,
    threads: int = 1,
) -> None:
    """Write the page with all that belongs to it; the same input gives the same bytes.

    Reads nothing but the files of the runs, and the images and ground truth that the sample tables name. Images are
    opened one at a time per thread.

    Args:
        runs: what to show, in the order of the page; compared ones are shown beside.
        outputs: what to write.
        facts: what the page says of the run besides its results.
        images: most images in a gallery; anomalous ones come first, then the highest scores.
        vis: "split" colors heatmaps from 0 to 255, "single" by each image's own range.
        overlays: whether to write each image with the outline of its final mask.
        threads: images that are opened at the same time.

    Raises:
        DataError: A table, map or mask of a run of this report is missing or damaged, or a table lacks an image.
    """
    groups, remarks = groups_of(runs, images)
    metrics, others, left_out = metrics_of(groups)
    tables = split_tables(metrics, others)
    measured = pd.concat([metrics, others], ignore_index=True)
    remarks += left_out
    entries: list[dict[str, Any]] = []
    measures = []
    with atomic_folder(outputs.assets) as assets, atomic_folder(outputs.figures) as figures:
        for group in groups:
            place = Place(facts.root, outputs.page, assets / group.folder, vis, facts.bit_depth)
            masks = write_gallery(group, place, threads)
            measures.append(masks)
            drawn, left_out = _figures(group, measured, masks)
            # A path relative to the page, so that both can be moved together.
            folder = _Folder(figures / group.category / group.split, _link(outputs, "figures", group))
            write_script(place.folder / "figures.js", f"{group.folder}/figures", _write_figures(drawn, folder))
            explained = _write_evidence(group, place, threads)
            entries.append(_entry(group, masks, _link(outputs, "assets", group), explained))
            remarks += [*masks.remarks, *left_out]
        detectability = detectability_entries(runs, assets)
        tables_of_audits = {name: _relative(path, outputs.page) for name, path in facts.audits.items()}
        audits = audit_parts(facts, assets, _relative(outputs.assets, outputs.page), tables_of_audits, threads)

        def address(path: Path) -> str:
            """As the page links it; what is below `assets` will lie below `outputs.assets`."""
            below = path.is_relative_to(assets)
            return _relative(outputs.assets / path.relative_to(assets) if below else path, outputs.page)

        clusters = cluster_parts(groups, facts, assets, address, threads)
    said = statements(groups, measures, facts.conditions)
    _write_metrics(outputs, metrics, tables)
    with atomic_folder(outputs.overlays) as folder_of_overlays:
        for run in [run for run in runs if overlays and not run.compared]:
            folder_of_run = folder_of_overlays / run.name / run.category / run.split
            write_overlays(folder_of_run, run, facts.root, threads, bit_depth=facts.bit_depth)
    _write_verdicts(outputs, tables, images_table(groups, measures), said)
    content = {
        **_constants(vis),
        **_content(groups, tables, facts),
        "groups": entries,
        "result_columns": _result_columns(entries),
        "remarks": remarks,
        "packs": pack_sentences(runs),
        "detectability": detectability,
        "audits": audits,
        "clusters": clusters,
        "statements": said,
        "paths": {name: _relative(getattr(outputs, name), outputs.page) for name in outputs.__dataclass_fields__},
    }
    with atomic_file(outputs.page) as partial:
        text = _environment().get_template("index.html.j2").render(content)
        partial.write_text(text, encoding="utf-8", newline="\n")


def _write_evidence(group: Group, place: Place, threads: int) -> set[str]:
    """Write the evidence of a group's runs as data files and pictures; the names of the runs that have some."""
    explained = set()
    # The images of the gallery come first.
    samples = group.samples[: group.shown]
    for number, run in enumerate(group.runs):
        name = f"{run_file(number)}-evidence"
        how: dict[str, Any] = {"root": place.root, "bit_depth": place.bit_depth, "threads": threads}
        entries = write_evidence(run, samples, place.folder / "images", name, **how)
        if entries is not None:
            write_script(place.folder / f"{name}.js", f"{group.folder}/{name}", entries)
            explained.add(run.name)
    return explained


def _write_metrics(outputs: ReportFiles, metrics: pd.DataFrame, tables: Sequence[SplitTables]) -> None:
    with atomic_folder(outputs.tables) as folder:
        write_tables(folder, metrics, tables)
    write_metrics_csv(outputs.metrics, metrics)


def _write_verdicts(
    outputs: ReportFiles, tables: Sequence[SplitTables], images: pd.DataFrame, said: Sequence[Statement]
) -> None:
    write_csv(outputs.images, images)
    write_workbook(outputs.workbook, tables, images)
    with atomic_file(outputs.summary) as partial:
        partial.write_text(summary_text(said, images), encoding="utf-8", newline="\n")


@dataclass(frozen=True)
class _Folder:
    """A folder to write to, and its address as the page links it."""

    path: Path
    link: str


def _link(outputs: ReportFiles, kind: str, group: Group) -> str:
    base = _relative(getattr(outputs, kind), outputs.page)
    return f"{base}/{group.folder if kind == 'assets' else quote(f'{group.category}/{group.split}')}"


def _figures(
    group: Group, measured: pd.DataFrame, masks: Measured
) -> tuple[list[tuple[Figure, str | None]], list[str]]:
    """Every figure of a group with the run that it is of (None: of all), and remarks on curves that cannot be used."""
    here = measured[(measured["category"] == group.category) & (measured["split"] == group.split)]
    metrics = {str(row["detector"]): {str(name): row[name] for name in row} for row in here.to_dict("records")}
    curves, remarks = curves_of(group)
    curves = {run: table for run, table in curves.items() if run in metrics}
    drawn: list[tuple[Figure, str | None]] = [(figure, None) for figure in curve_figures(curves, metrics)]
    labels = {str(row["sample_id"]): known(row["label"]) for row in group.samples.to_dict("records")}
    for run in group.runs:
        if not run.compared:
            table = group.tables[run.name]
            of_run = [
                score_figure(run.name, table["rescored"].to_numpy(float), list(labels.values()), _on_scale(group, run)),
                threshold_figure(run.name, table, labels),
                size_figure(run.name, masks.regions[run.name]),
                training_figure(run.name, _history(run.history)) if run.history else None,
            ]
            of_run += pod_figures(run.detectability, f"{run.name}_pod_") if run.detectability else []
            drawn += [(figure, run.name) for figure in of_run if figure]
    return drawn, remarks


def _on_scale(group: Group, run: RunFiles) -> float | None:
    """The limit of a run, if it is in the units of the scores that are drawn: those after re-scoring."""
    limit, table = group.limit(run.name), group.tables[run.name]
    return limit.value if limit and table["rescored"].equals(table["score"]) else None


def _history(path: Path) -> pd.DataFrame:
    return read_table(path, stage="train", columns={"step": "integers", "loss": "numbers"})


def _write_figures(drawn: Sequence[tuple[Figure, str | None]], folder: _Folder) -> list[dict[str, Any]]:
    """Write each figure as .svg and .png; returns their entries in the page's data."""
    folder.path.mkdir(parents=True, exist_ok=True)
    entries = []
    for figure, run in drawn:
        text = canvas.svg(figure)
        (folder.path / f"{figure.name}.svg").write_text(text, encoding="utf-8", newline="\n")
        (folder.path / f"{figure.name}.png").write_bytes(canvas.png(figure))
        entries.append(
            {
                "name": figure.name,
                "title": figure.title,
                "caption": figure.caption,
                "run": run,
                "svg": canvas.page_svg(text, figure),
                "file": f"{folder.link}/{quote(figure.name)}",
            }
        )
    return entries


def _entry(group: Group, masks: Measured, link: str, explained: Collection[str]) -> dict[str, Any]:
    """What the page knows of a group before it loads the group's data."""
    return {
        "folder": link,
        "key": group.folder,
        "category": group.category,
        "split": group.split,
        "images": len(group.samples),
        "shown": group.shown,
        "runs": [
            {
                "name": run.name,
                "compared": run.compared,
                "file": run_file(number),
                "explained": run.name in explained,
                "counts": count_verdicts(masks.results[run.name]),
                "limit": _limit(group, run.name),
                # Images of the gallery come first.
                "leftOut": count_verdicts(masks.results[run.name][group.shown :]),
            }
            for number, run in enumerate(group.runs)
        ],
    }


def _limit(group: Group, run: str) -> dict[str, Any] | None:
    limit = group.limit(run)
    return {"value": limit.value, "words": in_words(limit)} if limit else None


def _result_columns(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Results that the overview counts: those of labeled images where there are some, and the rarer ones that occur."""
    counts: Counter[str] = Counter()
    for entry in entries:
        for run in entry["runs"]:
            counts.update(run["counts"])
    labeled = any(counts[name] for name in VERDICTS if name not in RARE_VERDICTS)
    return [name for name in VERDICTS if counts[name] or (labeled and name not in RARE_VERDICTS)]


def _constants(vis: str) -> dict[str, Any]:
    """What the templates need whatever the results are."""
    return {
        "version": __version__,
        "versions": versions(),
        "vis": vis,
        "shortened": without_seeds,
        "metrics": METRICS,
        "mean": MEAN,
        "headings": HEADINGS,
        "meanings": MEANINGS,
        "sections": Counter(HEADINGS[name][0] for name in METRICS),
        "results": VERDICTS,
        "colors": {name: (light, DARK[name]) for name, light in LIGHT.items()},
        "colormap": pictures.colormap_css(),
        "heat_range": pictures.HEAT_RANGE,
    }


def _content(groups: Sequence[Group], tables: Sequence[SplitTables], facts: PageFacts) -> dict[str, Any]:
    runs = [run for group in groups for run in group.runs]
    categories = list(dict.fromkeys(group.category for group in groups))
    benchmark = facts.literature.benchmark_of(facts.layout, categories)
    published = comparisons(facts.literature, facts.layout, categories, facts.setups)
    return {
        "dataset": facts.dataset,
        "encoder": facts.encoder,
        "notice": facts.notice,
        "warnings": facts.warnings,
        "config": facts.config,
        "detectors": list(dict.fromkeys(run.name for run in runs if not run.compared)),
        "others": list(dict.fromkeys(run.name for run in runs if run.compared)),
        "categories": categories,
        "splits": list(dict.fromkeys(group.split for group in groups)),
        "images": sum(len(group.samples) for group in groups),
        "ignores": any(group.samples["ignored"].notna().any() for group in groups),
        "tables": tables,
        "unmeasured": [
            f"{g.category}/{g.split}" for g in groups if not any(not run.compared and run.metrics for run in g.runs)
        ],
        "first_metric": FIRST_METRIC if FIRST_METRIC in _defined(tables) else "image_auroc",
        "benchmark": benchmark.name if benchmark else None,
        "published": published,
        "published_metrics": [name for name in METRICS if any(name in entry.row.values for entry in published)],
    }


def _defined(tables: Sequence[SplitTables]) -> set[str]:
    """Metrics that have a value somewhere."""
    return {
        metric
        for table in tables
        for row in table.means
        for metric, cell in zip(METRICS, row.cells, strict=True)
        if cell.value is not None
    }


def versions() -> Mapping[str, str]:
    """What is installed where the page is made: name -> version."""
    installed = {"robis": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def _relative(path: Path, page: Path) -> str:
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())


def _environment() -> jinja2.Environment:
    # Always: Jinja would choose by suffix, and does not escape .j2.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robis.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    # In a script element, where entities are not read: no text can end the element.
    environment.filters["data"] = lambda value: jinja2.utils.markupsafe.Markup(
        json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    )
    return environment
