"""The config written out for people and editors: JSON schema, commented YAML, the table of all keys.

`python -m robis.workflow.reference` (or `make config`) writes them into the repository; a test fails when they drift.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from robis.config.settings import SharedSettings, every_key, section_names, section_of
from robis.config.words import accepted
from robis.config.yaml_files import to_yaml
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import Settings, load
from robis.evaluation.metrics import MEANINGS
from robis.workflow.stages import STAGES, followers, readers

WIDTH = 118
MODELINE = "# yaml-language-server: $schema=./schema.json"

REPOSITORY = Path(__file__).parents[3]
# The values of the commented config, which repeats the demo's.
DEMO = REPOSITORY / "config" / "demo.yaml"

METRICS_MARK = "<!-- Written by `make config` from src/robis/evaluation/metrics.py. -->"

DEMO_HEAD = """The default config: it runs the demo, on generated images with an encoder for machines without a GPU.
Every key is here. Where a value differs from robis's default, which is the published one, the comment says so.
Written by `make config`; your own config needs only the keys that you change."""


def schema() -> str:
    """The JSON schema of a config file, for editors."""
    values = Settings.model_json_schema()
    for key in every_key(Settings):
        section, _, name = key.partition(".")
        if name:
            model = section_of(Settings, section).__name__
            entry = values["$defs"][model]["properties"][name]
            entry["description"] = description(key)
            entry.pop("larger", None)
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def commented_yaml(settings: SharedSettings, head: str) -> str:
    """A config file with every key, its meaning, what is allowed, and the default where the value differs."""
    lines = [MODELINE, *(f"# {line}" for line in head.splitlines())]
    for name in section_names(Settings):
        info = Settings.model_fields[name]
        value = getattr(settings, name)
        lines.append("")
        if hasattr(value, "model_fields_set"):
            lines += _comment(section_of(Settings, name).__doc__ or "", "")
            lines.append(f"{name}:")
            for key, field in section_of(Settings, name).model_fields.items():
                lines += _comment(_explained(f"{name}.{key}", field, getattr(value, key)), "  ")
                lines.append(f"  {key}: {plain(getattr(value, key))}")
        else:
            lines += _comment(_explained(name, info, value), "")
            lines.append(f"{name}: {plain(value)}")
    return "\n".join(lines) + "\n"


def markdown() -> str:
    """docs/config.md: every key with its default, what is allowed, and what a change of it re-runs."""
    lines = [
        "# Every option",
        "",
        "<!-- Written by `make config` from src/robis/config/ and src/robis/workflow/stages.py. -->",
        "",
        "A config file holds only what differs from the defaults below, which are the published values. Unknown keys",
        "and values out of range are refused before any job starts. `robis explain KEY` prints one entry,",
        "`robis config show` the effective settings of a category and split after overrides.",
        "",
        "“Re-runs” names the stages that read the key; every stage that reads what those write follows:",
        "",
        "| stage | followed by |",
        "| --- | --- |",
        *(f"| `{name}` | {_names(_after(name)) or '-'} |" for name in STAGES),
        "",
    ]
    for section in section_names(Settings):
        keys = [key for key in every_key(Settings) if key.split(".")[0] == section]
        if not keys:
            continue
        lines += [f"## {section}", ""]
        if "." in keys[0]:
            lines += [(section_of(Settings, section).__doc__ or "").strip(), ""]
        lines += ["| key | default | allowed | meaning | re-runs |", "| --- | --- | --- | --- | --- |"]
        for key in keys:
            field = field_of(key)
            cells = [
                f"`{key}`",
                f"`{plain(field.get_default(call_default_factory=True))}`",
                allowed(field, "`"),
                description(key),
                rerun_text(key),
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    lines += [
        "## overrides",
        "",
        "A list, applied in order; later ones win. `where` names categories, splits and detectors that must all match,",
        "`set` gives dotted keys and their values:",
        "",
        "```yaml",
        "overrides:",
        "  - {where: {category: [fabric, walnuts]}, set: {refine.multimask: true}}",
        "  - {where: {split: test_private_mixed}, set: {refine.model: vit_b}}",
        "```",
        "",
        "A name that the dataset does not have is an error. `dataset`, `detectors` and `report` cannot be overridden.",
        "A change re-runs what the keys in `set` re-run, for the categories and splits named in `where` alone.",
    ]
    return "\n".join(lines) + "\n"


def glossary() -> str:
    """docs/glossary.md, the table of metrics at its end written anew."""
    text = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    head, mark, _ = text.partition(METRICS_MARK)
    rows = [f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items()]
    return head + mark + "\n".join(["", "", "| metric | meaning |", "| --- | --- |", *rows, ""])


def rerun_text(key: str, detectors: Iterable[str] = tuple(DETECTORS)) -> str:
    """The stages of some detectors that read a key, with their conditions, for a table or a terminal."""
    special = {
        "dataset.name": "nothing; a new name starts a new results folder",
        "dataset.root": "nothing while the images have the same content",
        "dataset.layout": "nothing for images that keep their names, labels and masks",
        "dataset.table": "nothing for splits whose rows stay the same",
        "dataset.archive": "every stage that reads local weights",
        "dataset.categories": "nothing for the categories that stay",
        "dataset.splits": "nothing for the splits that stay",
        "detectors": "nothing for the detectors that stay",
    }
    by_condition: dict[str | None, list[str]] = {}
    for name, condition in readers(key, detectors).items():
        by_condition.setdefault(condition, []).append(f"`{name}`")
    parts = [special[key]] if key in special else []
    parts += [", ".join(names) + (f" ({condition})" if condition else "") for condition, names in by_condition.items()]
    return "; ".join(parts) or "nothing"


def description(key: str) -> str:
    """What a key means, and what `auto` stands for."""
    text = field_of(key).description or ""
    published: dict[str, list[str]] = {}
    for name, detector in DETECTORS.items():
        if key in detector.published:
            published.setdefault(plain(detector.published[key]), []).append(name)
    values = ", ".join(f"{value} for {' and '.join(names)}" for value, names in published.items())
    return f"{text} auto: {values}." if values else text


def field_of(key: str) -> FieldInfo:
    """The declaration of a dotted key."""
    section, _, name = key.partition(".")
    return section_of(Settings, section).model_fields[name] if name else Settings.model_fields[section]


def allowed(field: FieldInfo, mark: str = "") -> str:
    """What a key accepts, in words; `mark` stands around words that can be given."""
    return accepted(field.annotation, field.metadata, mark)


def _explained(key: str, field: FieldInfo, value: Any) -> str:
    default = field.get_default(call_default_factory=True)
    differs = f" Default: {plain(default)}." if value != default else ""
    return f"{description(key)} [{allowed(field)}]{differs}"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text.strip(), WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def plain(value: Any) -> str:
    """A value as one line of YAML."""
    text = to_yaml(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _after(name: str) -> list[str]:
    return [other for other in STAGES if other in followers({name}) - {name}]


def written_files() -> dict[str, str]:
    """Every generated file, by its path in the repository."""
    return {
        "config/schema.json": schema(),
        "config/config.yaml": commented_yaml(load(DEMO), DEMO_HEAD),
        "docs/config.md": markdown(),
        "docs/glossary.md": glossary(),
    }


if __name__ == "__main__":
    for path, text in written_files().items():
        (REPOSITORY / path).write_text(text, encoding="utf-8")
        print(path)
