"""Where the files of the workflow are: the Snakefile, rules, scripts, profiles and configs."""

from __future__ import annotations

import os
from pathlib import Path

# A wheel carries them inside the package (pyproject.toml); a checkout has them at its top.
_PACKAGED = Path(__file__).parents[1] / "workflow_files"
HOME = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3]
SNAKEFILE = HOME / "Snakefile"
SCRIPTS = HOME / "workflow_scripts"
PROFILES = HOME / "profiles"
CONFIGS = HOME / "config"
# The image in which `--sdm apptainer` runs the jobs: a file, in the current folder by default, or an address.
CONTAINER = os.environ.get("ROBIS_CONTAINER", "robis.sif")
