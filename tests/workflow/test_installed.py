"""robis outside of its checkout: as a package in folders with awkward names, and as a module of another workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow
# What a shell, a URL or an option parser could split or misread.
AWKWARD = "my parts #1 $ü's"
ROBIS = "import sys; from robis.cli import main; sys.exit(main(sys.argv[1:]))"


class Installed:
    """The package of a wheel, and a Python that imports it, both in a folder with an awkward name."""

    def __init__(self, folder: Path) -> None:
        self.site = folder / "site"
        self.python = folder / "env" / "bin" / "python"
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
            cwd=REPOSITORY, check=True, capture_output=True,
        )  # fmt: skip
        (wheel,) = folder.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(self.site)
        # The environment of the tests under another name, in which Python finds itself.
        (folder / "env").symlink_to(sys.prefix)

    def robis(self, *arguments: str, folder: Path, status: int = 0) -> str:
        """What a command prints in a folder, and ends with this status."""
        done = subprocess.run(
            [str(self.python), "-c", ROBIS, *arguments],
            cwd=folder, env=os.environ | {"PYTHONPATH": str(self.site)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed") / AWKWARD
    folder.mkdir()
    return Installed(folder)


def test_an_installed_robis_goes_on_where_the_checkout_was(
    installed: Installed, finished: Workspace, tmp_path: Path
) -> None:
    """It plans the same jobs, and runs those of a changed option, all from a folder whose name needs quotes."""
    here = Workspace(tmp_path / AWKWARD)
    shutil.copytree(finished.folder, here.folder, symlinks=True)
    assert "Nothing to be done" in installed.robis("run", "config.yaml", "-n", folder=here.folder)
    before = here.outputs()
    config = yaml.safe_load(here.configfile.read_text())
    here.configfile.write_text(yaml.safe_dump(config | {"score_images": {"top_fraction": 0.5}}))
    output = installed.robis("run", "config.yaml", "metrics", "--cores", "2", folder=here.folder)
    assert "steps (100%) done" in output and str(installed.site) in output
    after = here.outputs()
    changed = {name.split("/")[1] for name in before if before[name] != after[name]}
    assert changed == {"image_scores", "metrics", "curves"}, "verdicts are none of the target's files"


def test_the_wheel_holds_what_the_checkout_has(installed: Installed) -> None:
    files = installed.site / "robis" / "workflow_files"
    for part in ("rules", "workflow_scripts", "profiles", "config"):
        there = {path.relative_to(files).as_posix() for path in (files / part).rglob("*.*")}
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", part],
            cwd=REPOSITORY, check=True, capture_output=True, text=True,
        ).stdout.split()  # fmt: skip
        assert there == set(tracked)
    assert (files / "Snakefile").read_text() == (REPOSITORY / "Snakefile").read_text()


def test_an_installed_robis_has_its_presets(installed: Installed, tmp_path: Path) -> None:
    output = installed.robis("run", "demo", "-n", folder=tmp_path, status=1)
    assert "robis: dataset.root: data/demo is not a folder." in output


OUTER = """
configfile: "outer.yaml"

module robis:
    snakefile: config["snakefile"]
    config: config["robis"]

use rule * from robis as robis_*

rule count_masks:
    default_target: True
    input:
        rules.robis_all.input,
        rules.robis_metrics.input,
    output:
        "count.txt",
    shell:
        "find results/tiny/inp_former/anomaly_images_thresholded -name '*.png' | wc -l > {output}"
"""


def test_another_workflow_uses_robis_as_a_module(copy: Workspace) -> None:
    """It goes on with the results of robis alone, and its own rules use what robis makes."""
    config = yaml.safe_load(copy.configfile.read_text())
    copy.configfile.unlink()
    outer = copy.folder / "Snakefile"
    outer.write_text(OUTER)
    values = {"snakefile": str(REPOSITORY / "Snakefile"), "robis": config | {"score_images": {"top_fraction": 0.5}}}
    (copy.folder / "outer.yaml").write_text(yaml.safe_dump(values))
    profile = str(REPOSITORY / "profiles" / "default")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--workflow-profile", profile],
        cwd=copy.folder, env=copy.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ran = set(re.findall(r"Rule: (\w+)", done.stdout + done.stderr))
    assert ran == {f"robis_{name}" for name in ("score_images", "judge", "evaluate", "report")} | {"count_masks"}
    assert (copy.folder / "count.txt").read_text().strip() == "7"
