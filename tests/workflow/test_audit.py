"""The target `audit`: a defect and a copy among the good images, and the plan after they are excluded."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from robis.io.tables import write_csv
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow


def test_an_audit_finds_what_the_config_can_exclude(copy: Workspace) -> None:
    folder = copy.folder / "data" / "nut"
    rng = np.random.default_rng(3)
    for n in range(4, 9):
        image = cv2.GaussianBlur(rng.integers(60, 140, (96, 128, 3), dtype=np.uint8), (5, 5), 1)
        if n == 6:
            cv2.circle(image, (80, 40), 12, (230, 240, 250), -1)
        cv2.imwrite(str(folder / "train" / "good" / f"{n:03}_regular.png"), image)
    shutil.copy(folder / "test_public" / "good" / "000_regular.png", folder / "train" / "good" / "copy.png")
    output = copy.snakemake("audit")
    table = pd.read_csv(copy.results / "audit" / "nut" / "images.csv")
    assert len(table) == 12
    leak, defect = table.iloc[0], table.iloc[1]
    assert leak["reasons"] == ("same pixels as nut/test_public/good/000_regular.png, which is in test_public")
    assert (leak["image"], leak["duplicate_split"]) == ("nut/train/good/copy.png", "test_public")
    assert (defect["image"], defect["anomaly_rank"]) == ("nut/train/good/006_regular.png", 1)
    assert defect["x"] < 92 and defect["x"] + defect["width"] > 68
    # The terminal has the first findings and the place of the table.
    assert f"  {leak['image']}: {leak['reasons']}" in output
    assert "All images with reasons: results/tiny/audit/nut/images.csv" in output

    exclude = copy.folder / "exclude.csv"
    write_csv(exclude, table[table["image"].isin([leak["image"], defect["image"]])])
    copy.write_config({"dataset": {"exclude": "exclude.csv"}})
    # Those of train, and no other split.
    assert copy.planned("audit") == ["audit_images", "crop", "index"]
