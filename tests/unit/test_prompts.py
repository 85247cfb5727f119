"""WinCLIP's prompts: how many there are, how they read, and what is said of lists that cannot be used."""

from __future__ import annotations

import pytest

from robis.detectors.winclip.prompts import ANOMALOUS_STATES, NORMAL_STATES, TEMPLATES, prompts
from robis.errors import ConfigError


def test_published_ensemble() -> None:
    normal, anomalous = prompts("bottle")
    assert (len(NORMAL_STATES), len(ANOMALOUS_STATES), len(TEMPLATES)) == (7, 4, 21)
    assert (len(normal), len(anomalous)) == (147, 84)
    assert normal[0] == "a cropped photo of the bottle."
    assert normal[-1] == "a photo of a bottle without damage for anomaly detection."
    assert anomalous[0] == "a cropped photo of the damaged bottle."
    assert anomalous[-1] == "a photo of a bottle with damage for anomaly detection."
    assert "a photo of the small flawless bottle." in normal
    assert "a photo of the bottle with defect for visual inspection." in anomalous
    assert normal.count("a jpeg corrupted photo of the unblemished bottle.") == 2
    assert len(set(normal)) == 7 * 20
    assert not set(normal) & set(anomalous)


@pytest.mark.parametrize("name", ["metal_nut", "metal nut", "_metal__nut "])
def test_underscores_are_spaces(name: str) -> None:
    assert prompts(name)[0][:2] == ["a cropped photo of the metal nut.", "a close-up photo of a metal nut."]


def test_lists_of_ones_own() -> None:
    normal, anomalous = prompts("lid", ["{}", "clean {}"], ["{} with a {brace}"], ["{}!", "look: {}, {}"])
    assert normal == ["lid!", "look: lid, lid", "clean lid!", "look: clean lid, clean lid"]
    assert anomalous == ["lid with a {brace}!", "look: lid with a {brace}, lid with a {brace}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"normal_states": ["{}", "flawless"]}, r"winclip\.normal_states: found 'flawless'; expected \{\} where"),
        ({"anomalous_states": ["broken {name}"]}, r"winclip\.anomalous_states: found 'broken \{name\}'"),
        ({"templates": ["a photo"]}, r"winclip\.templates: found 'a photo'"),
        ({"templates": []}, r"winclip\.templates: found an empty list; expected at least one entry with \{\}"),
        ({"class_name": "_"}, r"winclip\.class_name: found '_'"),
    ],
)
def test_mistakes(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prompts(**{"class_name": "lid"} | arguments)
