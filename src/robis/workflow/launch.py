"""Start Snakemake on a config, from any folder, whether robis is a checkout or an installed package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from robis.errors import ConfigError
from robis.workflow.home import CONFIGS, PROFILES, SNAKEFILE

DEMO = CONFIGS / "demo.yaml"
# The demo's jobs are small, so each gets one thread. One with a model takes 1.1 GB, so only a few run at a time.
DEMO_CORES = 4


def command(config: Path, arguments: Sequence[str] = ()) -> list[str]:
    """The command line that runs the workflow on a config.

    Args:
        config: a config file, or the name of one that comes with robis.
        arguments: further arguments of snakemake, also config files that change some keys of this one. A profile
            that comes with robis may be given by its name: `--workflow-profile slurm`.

    Raises:
        ConfigError: there is no such config.
    """
    more = list(_with_profiles(arguments))
    place = next((place for place, argument in enumerate(more) if argument in ("--configfile", "--configfiles")), None)
    if place is None:
        # Not as two words: the option would take the words after it, such as a target.
        more.insert(0, f"--configfile={_config(config)}")
    else:
        more.insert(place + 1, str(_config(config)))
    return [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), *more]


def _config(config: Path) -> Path:
    if config.is_file():
        return config
    presets = {file.stem: file for file in CONFIGS.glob("*.yaml")}
    if str(config) not in presets:
        raise ConfigError(
            f"{config}: no such config file. `robis init FOLDER` writes one for a folder of images. These come with "
            f"robis: {', '.join(sorted(presets))}."
        )
    return presets[str(config)]


def _with_profiles(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with the folders of profiles that are given by their names."""
    option = "--workflow-profile"
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before == option:
            yield _profile(argument)
        elif argument.startswith(f"{option}="):
            yield f"{option}={_profile(argument.removeprefix(f'{option}='))}"
        else:
            yield argument


def _profile(value: str) -> str:
    """The folder of a profile: the one that is given if it exists, else that of robis with this name."""
    known = PROFILES / Path(value).name
    return value if Path(value).exists() or not known.is_dir() else str(known)


def replace_process(arguments: Sequence[str]) -> None:
    """Become another program, so that it gets the terminal's signals; on Windows wait for it and exit."""
    if sys.platform == "win32":
        sys.exit(subprocess.run(arguments).returncode)
    os.execv(arguments[0], list(arguments))


def demo_command() -> list[str]:
    """The command line of the demo, whose images are where its config says."""
    cores = min(DEMO_CORES, os.cpu_count() or 1)
    return command(DEMO, ["--quiet", "host", "reason", "--cores", str(cores), "--max-threads", "1"])
