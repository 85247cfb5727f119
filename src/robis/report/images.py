"""The verdict on every image as one table: judged anomalous or normal, by which limit, and what its mask marks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from robis.report.gallery import Measured
from robis.report.inputs import RunFiles
from robis.report.runs import Group, known
from robis.scoring.limits import Limit, in_words

COLUMNS = {
    "detector": "str",
    "category": "str",
    "split": "str",
    "sample_id": "str",
    "image": "str",
    "label": "object",
    "judged": "str",
    "reason": "str",
    "result": "str",
    "score": "float64",
    "limit": "float64",
    "margin": "float64",
    "regions": "Int64",
    "area": "float64",
    "x": "Int64",
    "y": "Int64",
    "width": "Int64",
    "height": "Int64",
    "peak": "float64",
    "seg_f1": "float64",
    "mask": "str",
}


def images_table(groups: Sequence[Group], measured: Sequence[Measured]) -> pd.DataFrame:
    """A row per image and run of this report, with COLUMNS; docs/outputs.md explains them.

    Run by run, then in the order of the page; within a category and split the images that are most certainly anomalous
    come first: by falling margin, where there is no limit by falling score.

    Args:
        groups: the report's groups.
        measured: what the masks of each group say.
    """
    runs = dict.fromkeys(run.name for group in groups for run in group.runs if not run.compared)
    parts = [
        pd.DataFrame(_rows(group, masks, name), columns=list(COLUMNS)).astype(COLUMNS)
        for name in runs
        for group, masks in zip(groups, measured, strict=True)
        if name in masks.images
    ]
    keys = ["margin", "score", "sample_id"]
    parts = [part.sort_values(keys, ascending=[False, False, True], kind="stable") for part in parts]
    return pd.concat([pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS), *parts], ignore_index=True)


def reason_of(judged: bool, limit: Limit | None) -> str:
    """Why an image is judged anomalous or normal, in words."""
    if limit is None:
        return "the final mask is not empty" if judged else "the final mask is empty"
    return f"{'above' if judged else 'not above'} {in_words(limit)}"


def _rows(group: Group, measured: Measured, name: str) -> Iterator[dict[str, Any]]:
    """A row per image of one run."""
    (run,) = [run for run in group.runs if run.name == name]
    limit = group.limit(name)
    tables = [table.to_dict("records") for table in (group.samples, group.tables[name])]
    for sample, row, of_image, result in zip(*tables, measured.images[name], measured.results[name], strict=True):
        reason = reason_of(of_image["judged"], limit)
        yield _row(run, sample, row, of_image) | {"reason": reason, "result": result}


def _row(
    run: RunFiles, sample: Mapping[Any, Any], row: Mapping[Any, Any], of_image: Mapping[str, Any]
) -> dict[str, Any]:
    marked = of_image["marked"]
    box = marked.box or (None,) * 4
    name = str(sample["sample_id"])
    return {
        **{"detector": run.name, "category": run.category, "split": run.split, "sample_id": name},
        **{"image": sample["image"], "label": known(sample["label"])},
        "judged": "anomalous" if of_image["judged"] else "normal",
        **{"score": row["score"], "limit": row["limit"], "margin": row["margin"]},
        **{"regions": marked.regions, "area": marked.area},
        **dict(zip(("x", "y", "width", "height"), box, strict=True)),
        **{"peak": marked.peak, "seg_f1": of_image["seg_f1"]},
        "mask": f"{run.masks_link}/{name}.png",
    }
