"""The config: every mistake is named, overrides apply in order, defaults are the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from robis.detectors.settings import Settings, load, parse
from robis.errors import ConfigError
from robis.workflow.runs import effective, variants
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
            r"tiling\.windw: unknown key\. Valid: window, overlap, edge, resample\. Did you mean 'window'",
        ),
        ({"tiling": {"overlap": 1.5}}, r"tiling\.overlap: found 1\.5; expected less than 1\."),
        ({"tiling": {"window": "imag"}}, r"tiling\.window: found 'imag'; expected auto, image.*or a valid integer"),
        ({"merge": {"blend": "mea"}}, r"merge\.blend: .*expected mean, feather, central\. Did you mean 'mean'"),
        ({"dataset": {"splits": []}}, r"dataset\.splits: found \[\]; expected at least 1 entry"),
        ({"dataset": {"splits": ["test", "test"]}}, r"dataset\.splits: found .*expected names that differ"),
        ({"dataset": 3}, r"dataset: found 3"),
        ({"detectors": ["inpformer"]}, r"detectors\.0: found 'inpformer'; .*Did you mean 'inp_former'"),
        ({"encoder": {"blocks": [1, -2]}}, r"encoder\.blocks\.1: found -2; expected greater than or equal to 0"),
        ({"encoder": {"sha256": "abc"}}, r"encoder\.sha256: found 'abc'"),
        (
            {"overrides": [{"where": {"categry": "a"}, "set": {"refine.method": "none"}}]},
            r"overrides\.0\.where.*categry.*Did you mean 'category'",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"refine.methd": "none"}}]},
            r"overrides\.0\.set\.refine\.methd: no such key\. .*Did you mean 'method'",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"refin.method": "none"}}]},
            r"overrides\.0\.set\.refin\.method: no such section\. .*Did you mean 'refine'",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"refine.method": "som"}}]},
            r"overrides\.0\.set\.refine\.method: found 'som'; expected sam, grabcut, none\. Did you mean 'sam'",
        ),
        (
            {"overrides": [{"where": {"category": "a"}, "set": {"dataset.root": "b"}}]},
            r"overrides\.0\.set\.dataset\.root: no such section",
        ),
        ({"overrides": [{"where": {"category": "a"}}]}, r"overrides\.0\.set: .*expected a value"),
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


def test_unreadable_config_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: not a readable YAML file"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"broken\.yaml: not a readable YAML file"):
        load(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(ConfigError, match=r"list\.yaml: holds list; expected keys"):
        load(tmp_path / "list.yaml")


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
    found = {name: effective(settings, detector=name) for name in settings.detectors}
    assert {name: one.encoder.name for name, one in found.items()} == {
        "inp_former": "dinov2_reg_vitb14",
        "musc": "clip_vitl14_336",
        "winclip": "clip_vitb16plus",
        "superadd": "dinov3_vithplus16",
    }
    assert [one.tiling.window for one in found.values()] == [1024, "image", "image", 1024]
    assert [one.score_images.top_fraction for one in found.values()] == [0.01, "own", "own", 0.001]
    assert [one.rescore.method for one in found.values()] == ["none", "rscin", "none", "none"]
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
    assert list(variants(settings)) == names
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
    with pytest.raises(ConfigError, match=r"winclip\.shots: decides which runs there are"):
        parse({"overrides": [{"where": {"category": "nut"}, "set": {"winclip.shots": 1}}]})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"musc": {"neighborhood_sizes": [1, 2]}}, r"musc\.neighborhood_sizes: found \[1, 2\]; expected odd numbers"),
        ({"binarize": {"closing_sizes": [3, 4]}}, r"binarize\.closing_sizes: found \[3, 4\]; expected odd numbers"),
        ({"binarize": {"closing_sizes": 3}}, r"binarize\.closing_sizes: found 3; expected a valid list"),
        ({"superadd": {"radius_growth": 1.0}}, r"superadd\.radius_growth: found 1\.0; expected greater than 1"),
        ({"merge": {"blend": "centre"}}, r"merge\.blend: found 'centre'; .*'central'"),
        (
            {"musc": {"averaged_fraction": [0.3, 0.1]}},
            r"musc\.averaged_fraction: found \[0\.3, 0\.1\]; expected two shares, the lower first",
        ),
        (
            {"winclip": {"templates": ["a photo"]}},
            r"winclip\.templates\.0: found 'a photo'; expected text with \{\} in it",
        ),
        ({"winclip": {"shots": -1}}, r"winclip\.shots: found -1; expected greater than or equal to 0"),
    ],
)
def test_options_of_the_zero_shot_detectors_are_checked(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(values)


@pytest.mark.parametrize("name", [".", "..", " demo", "demo ", "a/b"])
def test_a_name_that_cannot_be_a_folder_of_results_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.name: found .*; expected a name"):
        parse({"dataset": {"name": name}})
