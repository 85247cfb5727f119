"""The config: every mistake is named, overrides apply in order, defaults are the published ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from robis.config.messages import shown
from robis.config.overrides import FIXED
from robis.config.settings import every_key
from robis.config.types import Bounds
from robis.config.words import accepted, alternatives_of
from robis.detectors.settings import Settings, load, parse
from robis.errors import ConfigError
from robis.workflow.reference import field_of
from robis.workflow.runs import effective, runs_of
from tests.conftest import PRESETS, REPOSITORY


def test_defaults_are_the_published_values() -> None:
    settings = effective(Settings())
    assert (settings.tiling.window, settings.tiling.overlap, settings.tiling.edge) == (1024, 0.1, "pad")
    assert settings.encoder.name == "dinov2_reg_vitb14"
    assert (settings.inp_former.prototypes, settings.inp_former.epochs, settings.inp_former.batch_size) == (6, 200, 16)
    assert (settings.merge.scale, settings.merge.normalize) == (0.25, "split")
    assert (settings.binarize.method, settings.binarize.std_factor) == ("robis", 3.0)
    assert (settings.refine.method, settings.refine.model, settings.refine.max_boxes) == ("sam", "vit_h", 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tilng": {}}, r"tilng: unknown key\. .*Did you mean 'tiling'\?"),
        (
            {"tiling": {"windw": 3}},
            r"tiling\.windw: unknown key\. Valid: window, image_scale, overlap, edge, resample\. Did you mean 'window'",
        ),
        (
            {"tiling": {"overlap": 1.5}},
            r"tiling\.overlap: found 1\.5; expected a number from 0 to 0\.95\. More overlap makes a tile at every",
        ),
        (
            {"tiling": {"window": "imag"}},
            r"window: found 'imag'; expected auto, image, joined, or an integer from 8 .*\. Did you mean 'image'\?$",
        ),
        ({"merge": {"blend": "mea"}}, r"merge\.blend: .*expected mean, feather, or central\. Did you mean 'mean'"),
        (
            {"dataset": {"splits": []}},
            r"dataset\.splits: found \[\]; expected a list of one or more entries, each a name",
        ),
        ({"detectability": {"contrasts": [40, 40]}}, r"detectability\.contrasts: found .*expected different numbers"),
        ({"dataset": {"splits": ["test", "test"]}}, r"dataset\.splits: found .*expected unique names"),
        ({"dataset": 3}, r"dataset: found 3; expected keys such as name: and layout:\.$"),
        ({"dataset": None}, r"dataset: found null; expected keys such as .*\. Remove the line, or give it keys\.$"),
        ({"refine": "sam"}, r"refine: found 'sam'; expected keys such as method: and max_boxes:\.$"),
        (
            {"musc": {"averaged_fraction": [0.1, 0.2, 0.3]}},
            r"found \[0\.1, 0\.2, 0\.3\]; expected a list of two numbers from 0 to 1\.$",
        ),
        ({"detectors": ["inpformer"]}, r"detectors\.0: found 'inpformer'; .*Did you mean 'inp_former'"),
        ({"encoder": {"blocks": [1, -2]}}, r"encoder\.blocks\.1: found -2; expected an integer from 0 to 999\.$"),
        ({"encoder": {"sha256": "abc"}}, r"encoder\.sha256: found 'abc'; expected 64 hexadecimal digits or null\.$"),
        (
            {"overrides": [{"where": {"categry": "a"}, "set": {"refine.method": "none"}}]},
            r"overrides\.0\.where.*categry.*Did you mean 'category'",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"refine.methd": "none"}}]},
            r"overrides\.0\.set\.refine\.methd: unknown key\. .*Did you mean 'method'",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"refin.method": "none"}}]},
            r"overrides\.0\.set\.refin\.method: unknown section\. .*Did you mean 'refine'",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"refine.method": "som"}}]},
            r"overrides\.0\.set\.refine\.method: found 'som'; expected sam, grabcut, or none\. Did you mean 'sam'\?$",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"dataset.root": "b"}}]},
            r"overrides\.0\.set\.dataset\.root: dataset is the same for all jobs and cannot be overridden\.",
        ),
        (
            {"overrides": [{"where": {"category": "a"}}]},
            r"overrides\.0\.set: this key is missing; expected one or more keys, each with a value\.$",
        ),
    ],
)
def test_mistakes_name_the_key_the_value_and_the_nearest_spelling(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(values)


def test_every_mistake_is_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"tiling": {"windw": 3, "overlap": 2}, "mrege": {}}, "my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml cannot be used:\n")
    for part in ("tiling.windw", "tiling.overlap", "mrege"):
        assert part in message


def test_overrides_apply_in_order_to_what_they_name() -> None:
    settings = parse(
        {
            "overrides": [
                {"where": {"category": ["rice", "can"]}, "set": {"refine.method": "none", "refine.max_boxes": 5}},
                {"where": {"category": "rice", "split": "test_private"}, "set": {"refine.method": "grabcut"}},
            ]
        }
    )
    assert effective(settings, category="vial").refine.method == "sam"
    rice = effective(settings, category="rice", split="test_public")
    assert (rice.refine.method, rice.refine.max_boxes, rice.refine.model) == ("none", 5, "vit_h")
    assert effective(settings, category="rice", split="test_private").refine.method == "grabcut"
    assert effective(settings, category="rice").refine.method == "none", (
        "a job without a split is in no split's override"
    )


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().merge.scale = 0.5  # type: ignore[misc]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name: str) -> None:
    load(REPOSITORY / "config" / f"{name}.yaml")


def test_the_mvtec_ad_2_preset_holds_what_the_published_code_does_by_category_name() -> None:
    settings = load(REPOSITORY / "config" / "mvtec_ad_2.yaml")
    assert settings.inp_former.epochs == 200
    assert effective(settings, category="rice", split="test_private").refine.method == "none"
    assert effective(settings, category="fabric", split="test_private").refine.multimask
    assert not effective(settings, category="can", split="test_private").refine.multimask
    assert effective(settings, category="can", split="test_private").refine.model == "vit_h"
    assert effective(settings, category="can", split="test_private_mixed").refine.model == "vit_b"
    assert yaml.safe_load((REPOSITORY / "config" / "mvtec_ad_2.yaml").read_text())["dataset"]["splits"] == [
        "test_public",
        "test_private",
        "test_private_mixed",
    ]


def test_auto_stands_for_the_published_values_of_each_detector() -> None:
    settings = parse({"detectors": ["inp_former", "musc", "winclip", "superadd"]})
    resolved = {name: effective(settings, detector=name) for name in settings.detectors}
    assert {name: of.encoder.name for name, of in resolved.items()} == {
        "inp_former": "dinov2_reg_vitb14",
        "musc": "clip_vitl14_336",
        "winclip": "clip_vitb16plus",
        "superadd": "dinov3_vithplus16",
    }
    assert [of.tiling.window for of in resolved.values()] == [1024, "image", "image", 1024]
    assert [of.score_images.top_fraction for of in resolved.values()] == [0.01, "own", "own", 0.001]
    assert [of.rescore.method for of in resolved.values()] == ["none", "rscin", "none", "none"]
    assert effective(settings).tiling.window == 1024, "tiles that no detector owns are RoBiS's"
    given = parse({"detectors": ["musc"], "tiling": {"window": 64}, "rescore": {"method": "none"}})
    assert effective(given, detector="musc").tiling.window == 64
    assert effective(given, detector="musc").rescore.method == "none"


@pytest.mark.parametrize(
    ("winclip", "names", "last"),
    [
        ({}, ["winclip"], {"shots": 0, "seeds": 0}),
        ({"shots": 2, "seeds": 1}, ["winclip"], {"shots": 2, "seeds": 1}),
        ({"shots": [4], "seeds": [3]}, ["winclip"], {"shots": 4, "seeds": 3}),
        ({"shots": 0, "seeds": [7, 1]}, ["winclip"], {"shots": 0, "seeds": 0}),
        (
            {"shots": [0, 1], "seeds": [0, 5]},
            ["winclip_0shot", "winclip_1shot_seed0", "winclip_1shot_seed5"],
            {"shots": 1, "seeds": 5},
        ),
        ({"shots": 2, "seeds": [0, 1]}, ["winclip_2shot_seed0", "winclip_2shot_seed1"], {"shots": 2, "seeds": 1}),
    ],
)
def test_lists_of_shots_and_seeds_are_runs(winclip: dict, names: list[str], last: dict) -> None:
    settings = parse({"detectors": ["winclip"], "winclip": winclip})
    assert list(runs_of(settings)) == names
    assert effective(settings, detector=names[-1]).winclip.model_dump(include={"shots", "seeds"}) == last


def test_an_override_of_a_detector_reaches_all_its_runs() -> None:
    settings = parse(
        {
            "detectors": ["winclip"],
            "winclip": {"shots": [0, 1]},
            "overrides": [
                {"where": {"detector": "winclip"}, "set": {"winclip.temperature": 0.1}},
                {"where": {"detector": "winclip_1shot_seed0"}, "set": {"merge.blend": "feather"}},
            ],
        }
    )
    zero, one = (effective(settings, detector=name) for name in ("winclip_0shot", "winclip_1shot_seed0"))
    assert zero.winclip.temperature == one.winclip.temperature == 0.1
    assert (zero.merge.blend, one.merge.blend) == ("mean", "feather")
    with pytest.raises(
        ConfigError, match=r"winclip\.shots: this key decides which runs there are\. Set it in the section winclip\."
    ):
        parse({"overrides": [{"where": {"category": "nut"}, "set": {"winclip.shots": 1}}]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"musc": {"neighborhood_sizes": [1, 2]}}, r"musc\.neighborhood_sizes: found \[1, 2\]; expected odd numbers"),
        ({"binarize": {"closing_sizes": [3, 4]}}, r"binarize\.closing_sizes: found \[3, 4\]; expected odd numbers"),
        (
            {"binarize": {"closing_sizes": 3}},
            r"binarize\.closing_sizes: found 3; expected a list of up to 20 integers from 1 to 999\.$",
        ),
        (
            {"superadd": {"radius_growth": 1.0}},
            r"superadd\.radius_growth: found 1\.0; expected a number from 1\.001 to 100\.$",
        ),
        ({"merge": {"blend": "centre"}}, r"merge\.blend: found 'centre'; .*'central'"),
        (
            {"musc": {"averaged_fraction": [0.3, 0.1]}},
            r"musc\.averaged_fraction: found \[0\.3, 0\.1\]; expected two fractions, the lower first",
        ),
        (
            {"winclip": {"templates": ["a photo"]}},
            r"winclip\.templates\.0: found 'a photo'; expected text with \{\} in it",
        ),
        (
            {"winclip": {"shots": -1}},
            r"winclip\.shots: found -1; expected an integer from 0 to 100000 or a list of one or more integers",
        ),
    ],
)
def test_options_of_the_zero_shot_detectors_are_checked(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(values)


@pytest.mark.parametrize("name", [".", "..", " demo", "demo ", "a/b"])
def test_a_name_that_cannot_be_a_folder_of_results_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.name: found .*; expected a name"):
        parse({"dataset": {"name": name}})


EXTREMES: list[Any] = [
    *(10**18, 2**63, 2**64, 10**400, 10**5000, -1, -(10**30), 0),
    *(1e300, 1e-320, math.inf, -math.inf, math.nan, 0.5),
    *(True, False, None, "", "\0", "yes", "1", "x" * 10_000, "\ud800", b"x", {}, {"a": 1}, (1, 2), object()),
    *([], [[]], [None], [True], [""], [math.nan], [math.inf], [10**400], [-1], [1, 1], ["a", 1], [{"a": 1}]),
]


def nested(key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.partition(".")
    return {section: {name: value}} if name else {section: value}


@pytest.mark.parametrize("key", [*every_key(Settings), "overrides", "tiling", "overrides.where", "overrides.set"])
def test_extreme_values_are_valid_or_give_one_mistake_that_names_the_key(key: str) -> None:
    for value in EXTREMES:
        if key.startswith("overrides."):
            override = {"where": {"category": "a"}, "set": {"merge.scale": 1}} | {key.partition(".")[2]: value}
            values: dict[str, Any] = {"overrides": [override]}
        else:
            values = nested(key, value)
        try:
            settings = parse(values)
        except ConfigError as error:
            headline, *mistakes = str(error).splitlines()
            assert headline == "config cannot be used:"
            # An override {"a": 1} has an unknown key and lacks two.
            of_entries = 3 if key == "overrides" else len(value) if isinstance(value, list) else 1
            assert 1 <= len(mistakes) <= max(1, of_entries)
            for mistake in mistakes:
                assert mistake.startswith(f"  {key.replace('overrides.', 'overrides.0.')}")
                assert mistake.endswith((".", "?")) and len(mistake) < 600
                assert ("expected " in mistake) or ("unknown " in mistake)
        else:
            assert settings.model_dump_json(), "what is valid can be written"


OVERRIDABLE = [
    key for key in every_key(Settings) if key.partition(".")[0] not in FIXED and key not in Settings.RUN_KEYS
]


@pytest.mark.parametrize("key", OVERRIDABLE)
def test_overrides_are_checked_as_the_config_is(key: str) -> None:
    for value in EXTREMES:
        try:
            parse(nested(key, value))
            expected = ""
        except ConfigError as error:
            expected = str(error).replace(f"  {key}", f"  overrides.0.set.{key}")
        values = {"overrides": [{"where": {"category": "a"}, "set": {key: value}}]}
        if expected:
            with pytest.raises(ConfigError) as caught:
                parse(values)
            assert str(caught.value) == expected
        else:
            assert parse(values).overridden(category=["a"]).get(key) == parse(nested(key, value)).get(key)


@pytest.mark.parametrize("key", every_key(Settings))
def test_every_number_has_an_upper_bound_and_its_message_the_reason(key: str) -> None:
    field = field_of(key)
    for kind, limits in alternatives_of(field.annotation, field.metadata):
        if kind not in (int, float):
            continue
        assert (
            " to " in accepted(kind, limits) or "at most" in accepted(kind, limits) or "below" in accepted(kind, limits)
        )
        reason = next((limit.reason for limit in limits if isinstance(limit, Bounds)), "")
        if kind is int:
            assert reason.endswith(".")
        with pytest.raises(ConfigError) as caught:
            parse(nested(key, 10**20))
        assert str(caught.value).endswith(f"{accepted(field.annotation, field.metadata)}. {reason}".strip())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a'b", '"a\'b"'),
        (None, "null"),
        ([True, math.nan, "a"], "[true, .nan, 'a']"),
        ({"a": -math.inf}, "{a: -.inf}"),
        ("x" * 200, "'" + "x" * 59 + "..."),
        (10**400, "an integer of more than 300 digits"),
    ],
)
def test_values_in_messages_are_spelled_as_in_a_config_and_short(value: Any, text: str) -> None:
    assert shown(value) == text


def test_one_mistake_gives_one_sentence() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(
            {"dataset": {"categories": [1, "b"]}, "winclip": {"shots": ["x"]}, "score_images": {"top_fraction": "onw"}}
        )
    assert str(caught.value).splitlines()[1:] == [
        "  dataset.categories.0: found 1; expected a name without / \\ { } < >. Put it in quotes: '1'.",
        "  score_images.top_fraction: found 'onw'; expected auto, own, or a number from 0 to 1. Did you mean 'own'?",
        "  winclip.shots.0: found 'x'; expected an integer from 0 to 100000.",
    ]
