"""What the report shows of a config: its text, and the settings that decide what compares with published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from robis.config.settings import Settings
from robis.workflow.runs import Variant, effective
from robis.workflow.stages import every_key


def report_facts(settings: Settings, variants: Mapping[str, Variant], setup_keys: Sequence[str]) -> dict[str, Any]:
    """Plain data: `layout`; `config`, YAML; `setups`, run -> "detector" and settings.

    Args:
        settings: of the config.
        variants: the config's runs.
        setup_keys: dotted keys whose values `setups` has.
    """
    runs = {run: effective(settings, detector=run) for run in variants}
    return {
        "layout": settings.dataset.layout,
        "config": _config_text(settings, runs),
        "setups": {
            run: {"detector": variants[run].detector} | {key: values.get(key) for key in setup_keys}
            for run, values in runs.items()
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
