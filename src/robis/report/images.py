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

    Within a run, category and split, the images that are most certainly anomalous come first: by falling margin,
    where there is no limit by falling score.

    Args:
        groups: the report's groups.
        measured: what the masks of each group say.
    """
    rows = [row for group, masks in zip(groups, measured, strict=True) for row in _rows(group, masks)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    order = {name: place for place, name in enumerate(dict.fromkeys(table["detector"]))}
    table = table.assign(order=table["detector"].map(order))
    keys = ["order", "category", "split", "margin", "score", "sample_id"]
    table = table.sort_values(keys, ascending=[True, True, True, False, False, True], kind="stable")
    return table.drop(columns="order").reset_index(drop=True)


def reason_of(judged: bool, limit: Limit | None) -> str:
    """Why an image is judged anomalous or normal, in words."""
    if limit is None:
        return "the final mask is not empty" if judged else "the final mask is empty"
    return f"{'above' if judged else 'not above'} {in_words(limit)}"


def _rows(group: Group, measured: Measured) -> Iterator[dict[str, Any]]:
    samples = group.samples.to_dict("records")
    for run in group.runs:
        if run.compared:
            continue
        limit = group.limit(run.name)
        tables = group.tables[run.name].to_dict("records")
        facts = zip(samples, tables, measured.images[run.name], measured.results[run.name], strict=True)
        for sample, row, of_image, result in facts:
            yield _row(run, sample, row, of_image) | {
                "reason": reason_of(of_image["judged"], limit),
                "result": result,
            }


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
