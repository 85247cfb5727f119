"""Signs of life: jobs run in processes of their own, and their lines reach the terminal and the log."""

from __future__ import annotations

import os
import re

import pytest

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow

# Python runs a module of this name when it starts, in every job too: the plan comes with the second image.
IMPATIENT = "import robis.io.progress\nrobis.io.progress.MEASURED = 0.0\n"


def test_plans_of_jobs_reach_the_terminal_and_the_log(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = workspace.folder / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(IMPATIENT)
    path_list = os.pathsep.join([str(hook), workspace.environment["PYTHONPATH"]])
    monkeypatch.setattr(Workspace, "environment", workspace.environment | {"PYTHONPATH": path_list})
    splits = ("train", "test_public")
    output = workspace.snakemake(*(f"results/tiny/tiles/nut/{split}.npy" for split in splits))
    for stage in ("index", "crop"):
        for split, images in zip(splits, (4, 5), strict=True):
            lines = rf"INFO {stage} nut/{split}: {images} images, about 1 s\n(.*\n)*?.*{images} images in 1 s\n"
            assert re.search(lines, output), output
            log = workspace.results / "logs" / stage / "nut" / f"{split}.log"
            assert re.match(lines, log.read_text())
