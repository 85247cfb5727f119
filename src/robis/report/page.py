"""The report as a whole: page, pictures, figures and tables, made from a run's files."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd

from robis import __version__
from robis.evaluation.metrics import METRICS
from robis.io.atomic import atomic_file, atomic_folder
from robis.io.tables import read_table
from robis.report import facts as run_facts
from robis.report import pictures
from robis.report.drawing import COLORS, DARK, svg
from robis.report.exports import write_metrics_csv, write_tables
from robis.report.figures import Figure, curve_figures, score_figure, size_figure, threshold_figure, training_figure
from robis.report.gallery import run_file, write_gallery, write_script
from robis.report.overview import FIRST_METRIC, HEADINGS, MEAN, SplitTables, split_tables, without_seeds
from robis.report.published import benchmark_of, comparisons
from robis.report.raster import png
from robis.report.rule_graph import rule_graph
from robis.report.runs import RESULTS, Group, count_results, curves_of, groups_of, known, metrics_of
from robis.report.workbook import write_workbook


def build_report(
    results: Path,
    root: Path,
    page: Path,
    assets: Path,
    figures: Path,
    tables: Path,
    metrics_csv: Path,
    workbook: Path,
    *,
    runs: Sequence[Sequence[str]],
    images: int,
    encoder: str,
    facts: Mapping[str, Any],
    vis: str = "split",
    compare: Sequence[str] = (),
    histories: Collection[Path] = (),
    notice: str | None = None,
    threads: int = 1,
) -> None:
    """Write the page with all that belongs to it; the same input gives the same bytes.

    results: the folder of one dataset's results, whose name titles the page. root: the dataset, from which
    the sample tables' paths start.

    page: HTML that needs neither network nor server. Beside it: assets, a folder with its pictures and data;
    figures, a folder CATEGORY/SPLIT with every figure as .svg and .png; tables, a folder of .csv and .tex;
    metrics_csv, one row per run with ground truth, then one per detector and split with their mean (category
    "mean", `categories` the number averaged), values in 0..1, empty where undefined; workbook, an .xlsx.

    runs: every [detector, category, split] to show. images: most images in a gallery; anomalous ones come first,
    then the highest scores. vis: "split" colors heatmaps from 0 to 255, "single" by each image's own range.
    compare: other results folders, whose runs are shown beside these. histories: the runs' tables of training.
    encoder, notice: said at the top. facts: what `report_facts` says of the config. Images are opened one at a time
    per thread.

    Raises DataError where a table, map or mask of a run is missing, or a table lacks an image.
    """
    groups = groups_of(results, runs, compare, images)
    own, others = metrics_of(groups, own=True), metrics_of(groups, own=False)
    overview = split_tables(own, others)
    everything = pd.concat([own, others], ignore_index=True)
    with atomic_folder(assets) as asset_folder, atomic_folder(figures) as figure_folder:
        # A path relative to the page, so that both can be moved together.
        link = _relative(assets, page)
        entries = []
        for group in groups:
            folder = asset_folder / group.folder
            regions = write_gallery(group, root, page, folder, vis=vis, threads=threads)
            drawn = _figures(group, everything, regions, histories)
            _write_figures(drawn, group, folder, figure_folder, _relative(figures, page))
            entries.append(_entry(group, f"{link}/{group.folder}"))
        costs = _costs(results, groups, facts)
        graph = rule_graph(facts["pipeline"], _cost_notes(costs))
        (figure_folder / "pipeline.svg").write_text(svg(graph, page=False), encoding="utf-8", newline="\n")
        (figure_folder / "pipeline.png").write_bytes(png(graph))
    with atomic_folder(tables) as folder:
        write_tables(folder, own, overview)
    write_metrics_csv(metrics_csv, own)
    write_workbook(workbook, overview)
    categories = list(dict.fromkeys(group.category for group in groups))
    published = comparisons(facts["layout"], categories, facts["setups"])
    text = (
        _environment()
        .get_template("index.html.j2")
        .render(
            dataset=results.name,
            version=__version__,
            encoder=encoder,
            notice=notice,
            vis=vis,
            shortened=without_seeds,
            detectors=list(dict.fromkeys(detector for detector, _, _ in runs)),
            others=list(dict.fromkeys(run.name for group in groups for run in group.runs if not run.own)),
            categories=categories,
            splits=list(dict.fromkeys(group.split for group in groups)),
            images=sum(len(group.samples) for group in groups),
            tables=overview,
            unmeasured=_unmeasured(groups, own),
            groups=entries,
            metrics=METRICS,
            mean=MEAN,
            first_metric=FIRST_METRIC if FIRST_METRIC in _defined(overview) else "image_auroc",
            headings=HEADINGS,
            sections=Counter(HEADINGS[name][0] for name in METRICS),
            results=RESULTS,
            benchmark=benchmark_of(facts["layout"], categories),
            published=published,
            published_metrics=[name for name in METRICS if any(name in one.row.values for one in published)],
            costs=costs,
            uncounted=run_facts.uncounted(costs, list(facts["pipeline"])),
            versions=run_facts.versions(),
            config=facts["config"],
            graph=svg(graph, page=True),
            colors={role: (light, DARK[role]) for role, light in COLORS.items()},
            colormap=pictures.colormap_css(),
            heat_range=pictures.HEAT_RANGE,
            paths={
                name: _relative(path, page)
                for name, path in {"csv": metrics_csv, "xlsx": workbook, "tables": tables, "figures": figures}.items()
            },
        )
    )
    with atomic_file(page) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _figures(
    group: Group, measured: pd.DataFrame, regions: Mapping[str, pd.DataFrame], histories: Collection[Path]
) -> list[tuple[Figure, str | None]]:
    """Every figure of a group, with the run that it is of; None for those of all runs."""
    here = measured[(measured["category"] == group.category) & (measured["split"] == group.split)]
    metrics = {str(row["detector"]): {str(name): row[name] for name in row} for row in here.to_dict("records")}
    curves = {run: table for run, table in curves_of(group).items() if run in metrics}
    found: list[tuple[Figure, str | None]] = [(figure, None) for figure in curve_figures(curves, metrics)]
    labels = {str(row["sample_id"]): known(row["label"]) for row in group.samples.to_dict("records")}
    for run in group.runs:
        if run.own:
            table = group.tables[run.name]
            history = run.folder / "models" / group.category / "training.parquet"
            of_run = [
                score_figure(run.name, table["rescored"].to_numpy(float), list(labels.values())),
                threshold_figure(run.name, table, labels),
                size_figure(run.name, regions[run.name]),
                training_figure(run.name, read_table(history)) if history in histories else None,
            ]
            found += [(figure, run.name) for figure in of_run if figure]
    return found


def _write_figures(
    drawn: Sequence[tuple[Figure, str | None]], group: Group, folder: Path, figure_folder: Path, link: str
) -> None:
    """Each figure as files of its own, and all of them in one data file of the page."""
    place = Path(group.category) / group.split
    (figure_folder / place).mkdir(parents=True, exist_ok=True)
    listed = []
    for figure, run in drawn:
        path = figure_folder / place / figure.name
        path.with_name(f"{figure.name}.svg").write_text(svg(figure.drawing, page=False), "utf-8", newline="\n")
        path.with_name(f"{figure.name}.png").write_bytes(png(figure.drawing))
        listed.append(
            {
                "name": figure.name,
                "title": figure.title,
                "caption": figure.caption,
                "run": run,
                "svg": svg(figure.drawing, page=True),
                "file": f"{link}/{quote((place / figure.name).as_posix())}",
            }
        )
    write_script(folder / "figures.js", f"{group.folder}/figures", listed)


def _entry(group: Group, link: str) -> dict[str, Any]:
    """What the page knows of a group before it loads the group's data."""
    left_out = group.samples["row"].isna()
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
                "own": run.own,
                "file": run_file(number),
                "counts": count_results(group.tables[run.name]["result"]),
                "leftOut": count_results(group.tables[run.name].loc[left_out, "result"]),
            }
            for number, run in enumerate(group.runs)
        ],
    }


def _costs(results: Path, groups: Sequence[Group], facts: Mapping[str, Any]) -> list[run_facts.StageCost]:
    runs = list(dict.fromkeys(run.name for group in groups for run in group.runs if run.own))
    # Stages that several runs of one detector share lie in the folder of the detector's own name.
    owners = [*dict.fromkeys(setup["detector"] for setup in facts["setups"].values()), *runs]
    categories = list(dict.fromkeys(group.category for group in groups))
    return run_facts.stage_costs(results, owners, categories, list(facts["pipeline"]))


def _cost_notes(costs: Sequence[run_facts.StageCost]) -> dict[str, str]:
    stages = dict.fromkeys(cost.stage for cost in costs)
    return {stage: run_facts.duration(sum(cost.seconds for cost in costs if cost.stage == stage)) for stage in stages}


def _unmeasured(groups: Sequence[Group], measured: pd.DataFrame) -> list[str]:
    """Category and split of the groups that have no metrics."""
    have = set(zip(measured["category"], measured["split"], strict=True))
    return [f"{g.category}/{g.split}" for g in groups if (g.category, g.split) not in have]


def _defined(tables: Sequence[SplitTables]) -> set[str]:
    """Metrics that have a value somewhere."""
    return {
        metric
        for table in tables
        for row in table.means
        for metric, cell in zip(METRICS, row.cells, strict=True)
        if cell.value is not None
    }


def _relative(path: Path, page: Path) -> str:
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())


def _environment() -> jinja2.Environment:
    # Escaping is asked for by name: Jinja's own choice goes by suffix, and .j2 is not one that it escapes.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("robis.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f}"
    environment.filters["number"] = lambda value: f"{value:.4g}"
    environment.filters["duration"] = run_facts.duration
    # In a script element, where entities are not read: no text can end the element.
    environment.filters["data"] = lambda value: jinja2.utils.markupsafe.Markup(
        json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
    )
    return environment
