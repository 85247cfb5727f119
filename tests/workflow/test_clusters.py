"""`report.clusters`: what it plans, what it makes, and which stages its number of clusters re-runs."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from robis.report.clusters import read_regions
from robis.workflow.stages import SHARED
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow

CLUSTERS = {"report": {"max_images": 5, "clusters": True}}


def test_clusters_are_made_on_request(copy: Workspace) -> None:
    copy.write_config(CLUSTERS)
    assert copy.planned() == ["cluster_regions", "describe_regions", "describe_regions", "report"]
    copy.snakemake(cores=1)
    table = read_regions(copy.results / "inp_former" / "region_clusters" / "nut" / "regions.csv")
    described = [
        pd.read_parquet(copy.results / "inp_former" / "regions" / "nut" / f"{split}.parquet").assign(split=split)
        for split in ("test_public", "test_private")
    ]
    keys = ["split", "sample_id", "region"]
    expected = pd.concat(described).sort_values(keys)[[*keys, "x", "y", "width", "height", "area"]]
    assert len(expected) > 2
    given = table.sort_values(keys)[list(expected)]
    assert given.to_numpy().tolist() == expected.to_numpy().tolist()
    page = (copy.results / "report" / "index.html").read_text()
    assert page.count("data-example=") == min(len(table), 8 * table["cluster"].max())
    copy.write_config({"report": {"max_images": 5, "clusters": True, "cluster_count": 2}})
    assert copy.planned() == ["cluster_regions", "report"]


def test_the_table_of_stages_follows_the_rule(copy: Workspace) -> None:
    copy.write_config(CLUSTERS)
    output = copy.snakemake("--rulegraph", "--forceall")
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', output))
    before = {names[a] for a, b in re.findall(r"(\d+) -> (\d+)", output) if names[b] == "cluster_regions"}
    assert before == set(SHARED["cluster_regions"].after)
