"""What the report shows of a config: its text, and the settings that decide what compares with published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from robis.config.settings import SharedSettings, every_key
from robis.config.yaml_files import to_yaml
from robis.encoders.names import own_input_size
from robis.workflow.runs import Run, effective
from robis.workflow.scales import tile_side

if TYPE_CHECKING:
    from robis.workflow.project import Project


def report_facts(settings: SharedSettings, variants: Mapping[str, Run], setup_keys: Sequence[str]) -> dict[str, Any]:
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
            run: {"detector": variants[run].detector.name} | {key: of_run.get(key) for key in setup_keys}
            for run, of_run in runs.items()
        },
    }


def encoder_names(project: Project) -> str:
    """The runs' encoders, in words."""
    users: dict[str, list[str]] = {}
    for run, category, split in project.runs:
        name = project.effective(detector=run, category=category, split=split).encoder.name
        users.setdefault(name, []).append(project.kind(run))
    if len(users) == 1:
        return next(iter(users))
    return ", ".join(f"{name} ({', '.join(dict.fromkeys(kinds))})" for name, kinds in users.items())


def run_conditions(project: Project) -> dict[str, dict[str, dict[str, Any]]]:
    """Run -> category -> the fields of `robis.report.causes.Conditions`; a category's first split stands for all."""
    conditions: dict[str, dict[str, dict[str, Any]]] = {}
    for run, category, split in project.runs:
        if category in conditions.setdefault(run, {}):
            continue
        job = {"detector": run, "category": category, "split": split}
        settings = project.effective(**job)
        conditions[run][category] = {
            "window": tile_side(settings) or settings.tiling.window,
            "input_size": settings.encoder.input_size or own_input_size(settings.encoder.name),
            "encoder": settings.encoder.name,
            "weights": settings.encoder.weights,
            "training": len(project.samples(category, "train")) if project.trains(**job) else None,
        }
    return conditions


def random_weights(project: Project) -> list[str]:
    """The runs whose encoder has random weights."""
    weights = {
        run: project.effective(detector=run, category=category, split=split).encoder.weights
        for run, category, split in project.runs
    }
    return [run for run, of_run in weights.items() if of_run == "random"]


def random_weights_notice(project: Project) -> str | None:
    """What to know where an encoder's weights are random; None where none are."""
    affected = random_weights(project)
    if not affected:
        return None
    whose = "" if len(affected) == len(project.detectors) else f" of {', '.join(affected)}"
    return (
        f"The encoder's weights{whose} are random: masks and metrics show that the pipeline runs, not what the method "
        "can do. Set encoder.weights for real results."
    )


def _config_text(settings: SharedSettings, runs: Mapping[str, SharedSettings]) -> str:
    """Every key as given, and below what holds instead for single runs."""
    given = settings.model_dump(mode="json")
    text = to_yaml(given, default_flow_style=None, width=100)
    plain = settings.model_copy(update={"overrides": []})
    keys = every_key(type(settings))
    of_runs = {
        run: {key: _plain(of_run.get(key)) for key in keys if of_run.get(key) != plain.get(key)}
        for run, of_run in runs.items()
    }
    of_runs = {run: values for run, values in of_runs.items() if values}
    if of_runs:
        # In comments, so that the whole stays a config that can be used.
        lines = to_yaml(of_runs, default_flow_style=False, width=100)
        text += "\n# Other values of single runs:\n" + "".join(f"#   {line}\n" for line in lines.splitlines())
    return text


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
