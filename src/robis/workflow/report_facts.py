"""What the report is told of a config: the text that is shown, the stages that ran, the settings that decide what
compares with published numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from robis.config.settings import Settings
from robis.workflow.runs import Variant, effective
from robis.workflow.stages import STAGES, every_key, stages

# Settings that have to be those of a publication before its numbers compare.
SETUP_KEYS = (
    *("encoder.name", "encoder.weights", "encoder.input_size", "tiling.window", "tiling.resample"),
    *(
        "score_images.top_fraction",
        "rescore.method",
        "rescore.neighborhood_sizes",
        "rescore.embeddings",
        "musc.subsets",
    ),
    *("winclip.shots", "winclip.scales", "winclip.temperature", "evaluate.resolution"),
)


def report_facts(settings: Settings, variants: Mapping[str, Variant], *, trains: bool) -> dict[str, Any]:
    """Plain data: `layout`; `config`, YAML; `pipeline`, stage -> stages that it reads; `setups`, run -> settings.

    variants: the config's runs. trains: whether any of them has a job that trains.
    """
    runs = {run: effective(settings, detector=run) for run in variants}
    return {
        "layout": settings.dataset.layout,
        "config": _config_text(settings, runs),
        "pipeline": _pipeline(variants, trains=trains, shards=any(found.infer.shards > 1 for found in runs.values())),
        "setups": {
            run: {"detector": variants[run].detector} | {key: found.get(key) for key in SETUP_KEYS}
            for run, found in runs.items()
        },
    }


def _config_text(settings: Settings, runs: Mapping[str, Settings]) -> str:
    """Every key as given, and below what holds instead for single runs."""
    given = settings.model_dump(mode="json")
    text = yaml.safe_dump(given, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    plain = settings.model_copy(update={"overrides": []})
    own = {
        run: {key: _plain(found.get(key)) for key in every_key() if found.get(key) != plain.get(key)}
        for run, found in runs.items()
    }
    own = {run: values for run, values in own.items() if values}
    if own:
        # In comments, so that the whole stays a config that can be used.
        lines = yaml.safe_dump(own, sort_keys=False, default_flow_style=False, width=100, allow_unicode=True)
        text += "\n# What holds instead for single runs:\n" + "".join(f"#   {line}\n" for line in lines.splitlines())
    return text


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _pipeline(variants: Mapping[str, Variant], *, trains: bool, shards: bool) -> dict[str, list[str]]:
    """The stages of all runs in their order, each with those that it reads."""
    found: dict[str, list[str]] = {}
    for name in STAGES:
        of_runs = [own for variant in variants.values() if (own := stages(variant.detector).get(name))]
        if of_runs and (name != "train" or trains):
            after = {before for one in of_runs for before in one.after}
            if name == "infer" and shards:
                found["infer_shard"] = [before for before in found if before in after]
                after = {"infer_shard"}
            found[name] = [before for before in found if before in after]
    return found
