"""All of MVTec AD 2's categories and splits, with tiny images, on a SLURM of this machine: submissions and time.

As root on Debian or Ubuntu, after `make cluster`. Nothing waits in this cluster's queue, and all jobs share the cores
of one machine: the times show what groups cost, the submissions what they save elsewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from benchmarks.harness import REPOSITORY, Fact, Options, require
from benchmarks.workflow import environment, snakemake
from tests.cluster.slurm import LOOK_EVERY_SECOND, NO_ACCOUNTING, Cluster, missing

SPLITS = ("test_public", "test_private", "test_private_mixed")
FOLDERS = ("train/good", "validation/good", "test_public/good", "test_public/bad", *SPLITS[1:])
IMAGES, SIDE = 2, 64
TARGETS = ["all", "metrics"]
CONFIG: Mapping[str, Any] = {
    "dataset": {"name": "tiny", "layout": "mvtec_ad_2", "root": "data", "splits": list(SPLITS)},
    "tiling": {"window": "image"},
    "detectors": ["superadd"],
    "superadd": {"bank_size": 20, "rounds": 1, "neighbors": 5},
    "encoder": {"name": "efficientnet_lite0", "weights": "random", "input_size": 64},
    "refine": {"method": "grabcut"},
}
PROFILE = REPOSITORY / "profiles" / "slurm" / "config.yaml"
# In addition to the profile's groups, as docs/clusters.md has it for short GPU stages.
MORE_GROUPS: Mapping[str, Any] = {
    "resources": {"gpu": 1},
    "set-resource-scopes": {"gpu": "local"},
    "groups": {"infer": "infer", "refine": "refine"},
    "group-components": {"infer": 10, "refine": 10},
}


@dataclass(frozen=True)
class Sizes:
    """How many categories, and whether they run; otherwise they are planned."""

    categories: int = 8
    run: bool = True


FULL = Sizes()
QUICK = Sizes(categories=1, run=False)


def rows(options: Options, sizes: Sizes) -> Iterator[Fact]:
    """Without groups, with those of the profile, and with those that docs/clusters.md adds."""
    folder = options.folder
    write_categories(folder / "data", sizes.categories)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(dict(CONFIG)), encoding="utf-8")
    title = f"{sizes.categories} categories with validation and {len(SPLITS)} test splits on SLURM"
    jobs = planned_jobs(folder, config)
    if not sizes.run:
        yield Fact(title, "planned", {"jobs": jobs})
        return
    why = missing()
    require(why is None, str(why))
    for number, (label, profile) in enumerate(profiles().items()):
        place = folder / f"run_{number}"
        place.mkdir()
        (place / "config.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
        values = run(folder, config, place)
        yield Fact(title, label, {"jobs": jobs} | values)


def write_categories(root: Path, count: int) -> None:
    """A few images of noise per folder; bad ones have a bright spot and its mask."""
    rng = np.random.default_rng(0)
    for category in range(count):
        part = root / f"part_{category:04}"
        for folder in FOLDERS:
            for number in range(IMAGES):
                image, mask = rng.integers(60, 140, (SIDE, SIDE, 3), dtype=np.uint8), np.zeros((SIDE, SIDE), np.uint8)
                if folder.endswith("bad"):
                    cv2.circle(mask, (SIDE // 3, SIDE // 2), 8, 255, -1)
                    image[mask > 0] = 240
                    write_image(part / "test_public" / "ground_truth" / "bad" / f"{number:03}_mask.png", mask)
                write_image(part / folder / f"{number:03}.png", image)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG into a folder that need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def planned_jobs(folder: Path, config: Path) -> int:
    """Number of jobs that a dry run plans."""
    output = snakemake(folder, config, "--dry-run", "--quiet", "host", "reason", targets=TARGETS)
    return int(re.findall(r"^total +(\d+)", output, flags=re.MULTILINE)[0])


def run(folder: Path, config: Path, profile: Path) -> dict[str, str | float | None]:
    """A run from images to metrics on a new cluster, whose results go to another folder each time."""
    cluster = Cluster(Path(tempfile.mkdtemp(dir=folder)))
    command = [sys.executable, "-c", LOOK_EVERY_SECOND, "--snakefile", str(REPOSITORY / "Snakefile"), "--nolock"]
    command += ["--directory", str(folder), "--configfile", str(config), "--workflow-profile", str(profile)]
    command += [*NO_ACCOUNTING, "--config", f"dataset={{name: {profile.name}}}", "--", *TARGETS]
    try:
        cluster.start()
        started = time.perf_counter()
        with open(profile / "log", "wb") as log:
            done = subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment() | cluster.environment
            )
        seconds = time.perf_counter() - started
        submissions = cluster.jobs()
    finally:
        cluster.stop()
    require(not done.returncode, (profile / "log").read_text(encoding="utf-8")[-3000:])
    failed = [job["JobName"] for job in submissions if job["JobState"] != "COMPLETED"]
    require(not failed, f"not completed: {failed}")
    return {"submissions": len(submissions), "minutes": seconds / 60}


def profiles() -> dict[str, dict[str, Any]]:
    """The profile as it is shipped, with fewer groups and with more."""
    shipped = yaml.safe_load(PROFILE.read_text(encoding="utf-8"))
    without = {key: value for key, value in shipped.items() if key not in ("groups", "group-components")}
    more = dict(shipped)
    for key, value in MORE_GROUPS.items():
        more[key] = {**shipped.get(key, {}), **value}
    return {"no groups": without, "profiles/slurm": shipped, "infer and refine in groups, too": more}
