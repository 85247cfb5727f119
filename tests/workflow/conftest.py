"""Real Snakemake runs on a tiny generated dataset."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from filelock import FileLock

from robis.detectors.settings import load
from robis.workflow.project import Project
from robis.workflow.stages import stages
from tests.conftest import REPOSITORY

CONFIG: dict[str, Any] = {
    "dataset": {
        "name": "tiny",
        "layout": "mvtec_ad_2",
        "root": "data",
        "splits": ["test_public", "test_private"],
    },
    "tiling": {"window": 48, "overlap": 0.25, "edge": "shift"},
    "encoder": {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 32, "blocks": [2, 5]},
    "inp_former": {"epochs": 4, "batch_size": 4, "warmup_steps": 2, "prototypes": 3, "checkpoint_every": 1},
    "merge": {"scale": 0.5},
    "binarize": {"erosion_size": 2},
    "refine": {"method": "grabcut"},
    "report": {"max_images": 5},
}


def write_tiny_dataset(root: Path, categories: tuple[str, ...] = ("nut",), seed: int = 0) -> None:
    """Noise of two sizes with bright defects, in the MVTec AD 2 layout."""
    rng = np.random.default_rng(seed)
    for category in categories:
        for split, count in {
            "train/good": 4,
            "validation/good": 2,
            "test_public/good": 2,
            "test_public/bad": 3,
            "test_private": 2,
        }.items():
            for n in range(count):
                height, width = [(96, 128), (72, 104)][n % 2]
                image = cv2.GaussianBlur(rng.integers(60, 140, (height, width, 3), dtype=np.uint8), (5, 5), 1)
                folder = root / category / split
                folder.mkdir(parents=True, exist_ok=True)
                if split.endswith("bad"):
                    mask = np.zeros((height, width), np.uint8)
                    cv2.circle(mask, (30 + 8 * n, 40), 4 + 5 * n, 255, -1)
                    image[mask > 0] = (230, 240, 250)
                    truth = root / category / "test_public" / "ground_truth" / "bad"
                    truth.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(truth / f"{n:03}_regular_mask.png"), mask)
                cv2.imwrite(str(folder / f"{n:03}_regular.png"), image)


def copy_code(to: Path) -> Path:
    """Copy the workflow, the library and what is generated from it to a folder, where a test may edit them."""
    for part in ("src", "rules", "workflow_scripts", "profiles", "config"):
        shutil.copytree(REPOSITORY / part, to / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (to / "docs").mkdir()
    for file in ("Snakefile", "docs/config.md", "docs/glossary.md"):
        shutil.copy(REPOSITORY / file, to / file)
    return to


# Python runs a module of this name when it starts, in every job too.
KILLER = """
import os, signal

replace = os.replace

def replace_and_kill(source, target, **options):
    here = os.path.abspath(target) == os.environ["KILL_PATH"]
    if here and os.environ["KILL_MOMENT"] == "before":
        os.killpg(0, signal.SIGKILL)
    replace(source, target, **options)
    if here:
        os.killpg(0, signal.SIGKILL)

os.replace = replace_and_kill
"""


# Stages that the target `all` does not run unless the config asks for them.
OTHER_TARGETS = {"submit", "pack", "measure_detectability", "audit_images", "describe_regions", "cluster_regions"}
# Rules that only ask for files.
TARGETS = ("all", "masks", "metrics", "packs", "audit", "detectability", "submission")


class Workspace:
    """A folder with data and a config, and Snakemake run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results" / "tiny"
        self.configfile = folder / "config.yaml"
        self.code = REPOSITORY

    def write_config(
        self, changes: dict[str, dict[str, Any]] | None = None, *, to: Path | None = None, **top: Any
    ) -> None:
        config = {name: dict(section) for name, section in CONFIG.items()}
        for section, values in (changes or {}).items():
            config[section] = config.get(section, {}) | values
        (to or self.configfile).write_text(yaml.safe_dump(config | top))

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", "--snakefile", str(self.code / "Snakefile")),
            *("--directory", str(self.folder), "--configfile", str(self.configfile)),
            *("--workflow-profile", str(self.code / "profiles" / "default"), "--cores", str(cores)),
            *("--nolock", "--quiet", "host", "--", *arguments),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The library beside the Snakefile is the one that is meant, also where a test has copied both."""
        return os.environ | {"PYTHONPATH": str(self.code / "src")}

    def snakemake(self, *arguments: str, ok: bool = True, cores: int = 2) -> str:
        """Run Snakemake and return what it printed; `--` is put before targets already."""
        options = [a for a in arguments if a.startswith("-")]
        targets = [a for a in arguments if not a.startswith("-")]
        command = self.command(*targets, cores=cores)
        command[command.index("--nolock") : command.index("--nolock")] = options
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=self.environment)
        output = done.stdout + done.stderr
        assert (done.returncode == 0) == ok, output
        return output

    def planned(self, *targets: str) -> list[str]:
        """Names of the jobs a dry run plans, sorted, without the target rule itself."""
        output = self.snakemake("--dry-run", *targets)
        if "Nothing to be done" in output:
            return []
        jobs = []
        for line in output.partition("Job stats:")[2].splitlines()[3:]:
            if not line.strip() or line.startswith("total"):
                break
            name, count = line.split()[:2]
            jobs += [name] * int(count)
        return sorted(name for name in jobs if name not in TARGETS)

    def kill_at(self, moment: str, path: Path, *targets: str) -> None:
        """Run Snakemake, which SIGKILL ends with all its jobs when a file or folder gets its final name.

        Args:
            moment: "before" or "after" it has the name; a job at that very point kills them all, itself included.
            path: the file or folder.
            targets: of Snakemake.
        """
        hook = self.folder / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(KILLER)
        path_list = os.pathsep.join([str(hook), self.environment["PYTHONPATH"]])
        environment = self.environment | {"PYTHONPATH": path_list, "KILL_MOMENT": moment, "KILL_PATH": str(path)}
        done = subprocess.run(
            self.command(*targets),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            start_new_session=True,
            env=environment,
        )
        assert done.returncode == -signal.SIGKILL, f"the moment to kill never came\n{done.stdout}"

    def outputs(self) -> dict[str, bytes]:
        """Content of every result that must not depend on how it came about."""
        parts = [self.results / "samples", self.results / "tiles"]
        parts += [
            self.results / "inp_former" / name
            for name in (
                *("tile_maps", "anomaly_images", "coarse_masks", "thresholds"),
                *("anomaly_images_thresholded", "image_scores", "verdicts", "held_out_scores", "metrics", "curves"),
            )
        ]
        files = [file for part in parts for file in part.rglob("*") if file.is_file()]
        files += (self.results / "inp_former" / "models").rglob("*.safetensors")
        kept = [file for file in files if file.name != ".snakemake_timestamp"]
        return {str(file.relative_to(self.results)): file.read_bytes() for file in sorted(kept)}


# An executor of Snakemake whose jobs run in empty folders.
EXECUTORS = Path(__file__).parent / "executors"


def snakemake_elsewhere(workspace: Workspace, storage: Path, *targets: str, options: Sequence[str] = ()) -> str:
    """Run Snakemake as on machines that share nothing but a storage; what it printed.

    Args:
        workspace: with relative paths in its config, and a copy of the code in its folder, which Snakemake sends.
        storage: folder that is the storage, unless the options name another.
        targets: of Snakemake.
        options: of Snakemake.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    modules = os.pathsep.join([str(workspace.folder / "src"), str(EXECUTORS)])
    provider = options or ("--default-storage-provider", "fs", "--default-storage-prefix", str(storage))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--configfile", workspace.configfile.name, "--jobs", "2"),
            *("--workflow-profile", "profiles/default", "--rerun-triggers", "mtime"),
            *("--executor", "elsewhere", "--shared-fs-usage", "none", *provider, "--", *targets),
        ],
        cwd=workspace.folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": modules, "PATH": path},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def changed_stages(workspace: Workspace, config: Path, run: str) -> set[str]:
    """Stages of a run with a job whose parameters, as Snakemake compares them, differ from the workspace's config.

    What Snakemake plans are these stages and those that follow, where inputs stay the same.
    """
    with contextlib.chdir(workspace.folder):
        before, after = (Project(load(path)) for path in (workspace.configfile, config))
        return {
            name
            for name, stage in stages(run).items()
            for category, split in itertools.product(before.categories, ["train", *before.splits])
            for job in [{"detector": run, "category": category, "split": split}]
            for names in [{kind: job[kind] for kind in job if kind.replace("detector", "run") in stage.per}]
            if repr(before.params(name, **names)) != repr(after.params(name, **names))
        }


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Data and config, nothing run yet."""
    write_tiny_dataset(tmp_path / "data")
    workspace = Workspace(tmp_path)
    workspace.write_config()
    return workspace


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Workspace], object]) -> Workspace:
    """A workspace that nobody may change, made once for all processes that run tests."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    workspace = Workspace(folder)
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            make(workspace)
            (folder / "done").touch()
    return workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One complete run that nobody may change."""

    def make(workspace: Workspace) -> None:
        write_tiny_dataset(workspace.folder / "data")
        workspace.write_config()
        workspace.snakemake("all", "metrics", "submission")

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture
def copy(finished: Workspace, tmp_path: Path) -> Workspace:
    """The complete run in a folder of one's own, time stamps kept."""
    shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)
    return Workspace(tmp_path / "copy")
