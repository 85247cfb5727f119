"""The profiles know every rule: a new one must not run without a GPU, or be submitted without memory and time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
RULES = {file.stem: file.read_text() for file in (REPOSITORY / "rules").glob("*.smk") if file.stem != "common"}
WITH_MODELS = {
    *("audit_images", "infer", "infer_shard", "measure_detectability", "embed_references", "pack", "refine", "train"),
    *("describe_regions", "winclip_embed_prompts", "winclip_embed_tiles"),
}
WITHOUT_MODELS = {
    *("binarize", "cluster_regions", "crop", "evaluate", "index", "judge", "merge"),
    *("report", "score_images", "submit"),
}
# Run where Snakemake runs: no profile gives them anything.
LOCAL = {"archive", "copy_file"}


def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "profiles" / name / "config.yaml").read_text())


def test_every_rule_is_known_to_run_a_model_or_not() -> None:
    assert sorted([*WITH_MODELS, *WITHOUT_MODELS, *LOCAL]) == sorted(RULES)


@pytest.mark.parametrize("name", ["default", "workstation", "slurm"])
def test_rules_that_run_a_model_get_one_gpu_each_and_no_other_does(name: str) -> None:
    with_gpu = {rule: values["gpu"] for rule, values in profile(name)["set-resources"].items() if "gpu" in values}
    assert with_gpu == dict.fromkeys(WITH_MODELS, 1)


@pytest.mark.parametrize("name", ["default", "workstation", "slurm"])
def test_profiles_name_rules_that_there_are(name: str) -> None:
    for key in ("set-resources", "set-threads", "groups"):
        assert set(profile(name).get(key, {})) <= set(RULES)


@pytest.mark.parametrize("rule", sorted(RULES.keys() - LOCAL))
def test_what_a_job_asks_for_on_a_cluster_grows_with_its_attempts(rule: str) -> None:
    asked = profile("slurm")["set-resources"][rule]
    for resource in ("mem_mb", "runtime"):
        first, second = (eval(asked[resource], {"attempt": attempt}) for attempt in (1, 2))
        assert 0 < first < second, (rule, resource)
    declared = re.search(r"mem_mb=(\d+)", RULES[rule])
    assert declared
    assert eval(asked["mem_mb"], {"attempt": 1}) >= int(declared[1]), "less than the rule itself says"
    assert (asked.get("slurm_partition") == "gpu") == (rule in WITH_MODELS)


def test_profiles_agree_on_what_makes_a_file_stale() -> None:
    triggers = [profile(name)["rerun-triggers"] for name in ("default", "workstation", "slurm")]
    assert triggers[0] == triggers[1] == triggers[2]
    assert all(profile(name)["rerun-incomplete"] for name in ("default", "workstation", "slurm"))
