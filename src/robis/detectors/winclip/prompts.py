"""The prompts of WinCLIP (arXiv 2303.14814, section 4.1, supplement A): every state of a product in every template."""

from __future__ import annotations

from collections.abc import Sequence

from robis.errors import ConfigError

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)

ANOMALOUS_STATES = (
    "damaged {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
)

# The public reproductions have one line twice, which gives it twice the weight in the mean.
TEMPLATES = (
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)


def prompts(
    class_name: str,
    normal_states: Sequence[str] | None = None,
    anomalous_states: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Sentences that call a product normal, and sentences that call it anomalous.

    Args:
        class_name: what the product is called; underscores are read as spaces.
        normal_states, anomalous_states: phrases in which {} stands for the name; None takes the published ones.
        templates: sentences in which {} stands for such a phrase; None takes the published ones.

    Raises:
        ConfigError: no name, an empty list, or an entry without {}.
    """
    name = " ".join(class_name.replace("_", " ").split())
    if not name:
        raise ConfigError(f"winclip.class_name: found {class_name!r}; expected what the product is called.")
    lists = {
        "normal_states": NORMAL_STATES if normal_states is None else normal_states,
        "anomalous_states": ANOMALOUS_STATES if anomalous_states is None else anomalous_states,
        "templates": TEMPLATES if templates is None else templates,
    }
    for key, entries in lists.items():
        _check(f"winclip.{key}", entries)
    normal, anomalous = (
        [template.replace("{}", state.replace("{}", name)) for state in lists[key] for template in lists["templates"]]
        for key in ("normal_states", "anomalous_states")
    )
    return normal, anomalous


def _check(key: str, entries: Sequence[str]) -> None:
    if not entries:
        raise ConfigError(f"{key}: found an empty list; expected at least one entry with {{}}.")
    for entry in entries:
        if "{}" not in entry:
            raise ConfigError(f"{key}: found {entry!r}; expected {{}} where the name or the phrase goes.")
