"""Generated files do not drift, and what they say of a key is what the stages declare."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import unicodedata
from pathlib import Path

import jsonschema
import pytest
import yaml
from snakemake.cli import parse_config

from robis.cli import main
from robis.config.messages import RENAMED
from robis.config.settings import every_key
from robis.config.stage import NUMBER, POSITIVE, When
from robis.config.words import words_of
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import Settings, load, parse
from robis.errors import ConfigError
from robis.evaluation.metrics import MEANINGS, METRICS
from robis.workflow.explain import explain, larger
from robis.workflow.reference import allowed, commented_yaml, field_of, written_files
from robis.workflow.stages import STAGES, followers, readers, stages
from tests.conftest import PRESETS, REPOSITORY


@pytest.mark.parametrize("path", list(written_files()))
def test_generated_files_are_up_to_date(path: str) -> None:
    found = (REPOSITORY / path).read_text(encoding="utf-8")
    assert found == written_files()[path], f"{path} has drifted; run `make config`"


def test_the_commented_config_holds_every_key_and_is_the_demo() -> None:
    values = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
    written = [f"{section}.{key}" for section, keys in values.items() if isinstance(keys, dict) for key in keys]
    assert set(written) == {key for key in every_key(Settings) if "." in key}
    assert load(REPOSITORY / "config" / "config.yaml") == load(REPOSITORY / "config" / "demo.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_editors_get_the_schema_and_every_preset_satisfies_it(name: str) -> None:
    file = REPOSITORY / "config" / f"{name}.yaml"
    assert file.read_text().startswith("# yaml-language-server: $schema=./schema.json\n")
    schema = json.loads((REPOSITORY / "config" / "schema.json").read_text())
    jsonschema.validate(yaml.safe_load(file.read_text()), schema)


def test_the_schema_refuses_what_robis_refuses() -> None:
    schema = json.loads((REPOSITORY / "config" / "schema.json").read_text())
    for wrong in ({"tilng": {}}, {"tiling": {"windw": 1}}, {"merge": {"scale": 0}}, {"refine": {"method": "som"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
        with pytest.raises(ConfigError):
            parse(wrong)


def test_every_key_has_a_meaning_and_a_row() -> None:
    table = (REPOSITORY / "docs" / "config.md").read_text()
    for key in every_key(Settings):
        text = explain(key, Settings())
        assert len(text.splitlines()) >= 5
        assert f"| `{key}` |" in table


def test_explain_names_value_range_and_what_re_runs() -> None:
    text = explain("binarize.std_factor", parse({"binarize": {"std_factor": 2.5}}))
    assert re.search(r"value: +2\.5", text)
    assert re.search(r"default: +3\.0", text)
    assert re.search(r"allowed: +a number from 0 to 1000", text)
    assert re.search(r"re-runs: +binarize \(with binarize\.method mean_std or robis\)", text)
    then = (
        "refine, describe_regions, cluster_regions, score_images, evaluate, pack, measure_detectability, report, submit"
    )
    assert re.search(rf"then: +{then}", text)
    assert explain("tiling", Settings()).count("re-runs:") == 5
    assert re.search(r"re-runs: +nothing", explain("inp_former.checkpoint_every", Settings()))
    with pytest.raises(ConfigError, match=r"merge\.scal: no such key\. .*Did you mean 'merge\.scale'"):
        explain("merge.scal", Settings())
    with pytest.raises(ConfigError, match=r"merg: no such key\. .*Did you mean 'merge'"):
        explain("merg", Settings())
    with pytest.raises(ConfigError, match=r"erode_size: no such key\. Did you mean 'binarize\.erosion_size'\?$"):
        explain("erode_size", Settings())
    with pytest.raises(ConfigError, match=r"std_factor: no such key\. Did you mean 'binarize\.std_factor'\?$"):
        explain("std_factor", Settings())


def test_explain_says_which_way_to_turn_and_where_a_value_comes_from(tmp_path: Path) -> None:
    base, night = tmp_path / "my parts.yaml", tmp_path / "night.yaml"
    base.write_text(
        "binarize: {erosion_size: 3, std_factor: 2.0}\n"
        "overrides:\n  - {where: {category: [a, b]}, set: {binarize.erosion_size: 1}}\n"
    )
    night.write_text("binarize: {std_factor: 2.5}\ndetectors: [superadd]\n")
    files = [base, night]
    settings = load(*files)
    lines = explain("binarize.erosion_size", settings, files).splitlines()
    assert lines[3:6] == [
        "  larger:   fewer specks, small defects vanish",
        f"  value:    3 ({base})",
        "            1 where {category: [a, b]} (overrides.0)",
    ]
    assert lines[8] == f"  change:   snakemake --configfile '{base}' {night} --config 'binarize={{erosion_size: 3}}'"
    assert f"value:    2.5 ({night})" in explain("binarize.std_factor", settings, files)
    assert f"value:    [superadd] ({night})" in explain("detectors", settings, files)
    assert f"value:    0.25 (the default; not in {base} or {night})" in explain("merge.scale", settings, files)
    plain = explain("merge.scale", Settings())
    assert "value:    0.25 (the default)" in plain and "change:   snakemake --config 'merge={scale: 0.25}'" in plain


# A seed is any number, and the size of a pixel is a fact.
UNORDERED = ("seed", "seeds", "pixel_size")


def test_every_quantity_says_what_a_larger_value_does() -> None:
    texts = {key: allowed(field_of(key)).replace("any number of", "") for key in every_key(Settings)}
    quantities = {key for key, text in texts.items() if "number" in text or "integer" in text}
    without = {key for key in quantities if not larger(key)}
    assert without == {key for key in every_key(Settings) if key.rpartition(".")[2] in UNORDERED}


@pytest.mark.parametrize("key", every_key(Settings))
def test_the_form_to_copy_gives_the_value_back(key: str) -> None:
    value = Settings().get(key)
    given = next(line for line in explain(key, Settings()).splitlines() if line.startswith("  change:"))
    arguments = shlex.split(given)
    assert arguments[-2] == "--config"
    assert load(changes=parse_config(arguments[-1:])).get(key) == value


def test_every_metric_has_its_clause() -> None:
    assert list(MEANINGS) == list(METRICS)
    # Short enough for a tooltip, and a clause: no capital, no period.
    assert all(len(text) <= 110 and text[0] in "mfphF" and text[-1] != "." for text in MEANINGS.values())
    glossary = (REPOSITORY / "docs" / "glossary.md").read_text()
    assert glossary.partition("## Metrics")[0].count("\n| ") - 2 == 13


def test_what_is_declared_exists() -> None:
    known = set(every_key(Settings))
    for detector in DETECTORS:
        assert set(DETECTORS[detector].published) <= known
        assert set(stages(detector)) <= set(STAGES)
        for stage in stages(detector).values():
            for option in (*stage.reads, *stage.stale_options()):
                assert option.key in known
                if isinstance(option.when, When):
                    annotation = field_of(option.when.key).annotation
                    words = ["true", "false"] if annotation is bool else words_of(annotation)
                    assert set(option.when.values) <= {NUMBER, POSITIVE, *words}
            assert set(stage.after) <= set(STAGES)
    assert readers("evaluate.resolution") == {"evaluate": None}
    later = {"merge", "binarize", "judge", "refine", "score_images", "evaluate", "report", "submit"}
    later |= {"describe_regions", "cluster_regions", "pack", "measure_detectability"}
    assert followers({"merge"}) == later


def test_config_show_applies_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "rice" / "train").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "dataset": {"root": str(tmp_path / "data")},
                "overrides": [{"where": {"category": "rice"}, "set": {"refine.method": "none"}}],
            }
        )
    )
    arguments = ["config", "show", "--configfile", str(tmp_path / "config.yaml")]
    assert main([*arguments, "--category", "rice"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["refine"]["method"] == "none"
    assert main(arguments) == 0
    assert yaml.safe_load(capsys.readouterr().out)["refine"]["method"] == "sam"
    (tmp_path / "data" / unicodedata.normalize("NFD", "M\u00fcsli") / "train").mkdir(parents=True)
    for form in ("NFC", "NFD"):
        assert main([*arguments, "--category", unicodedata.normalize(form, "M\u00fcsli")]) == 0, form
        assert yaml.safe_load(capsys.readouterr().out)["refine"]["method"] == "sam"
    shutil.rmtree(next((tmp_path / "data").glob("M*")))
    assert main([*arguments, "--category", "rise"]) == 1
    assert "category: 'rise' matches nothing here. Valid: rice. Did you mean 'rice'?" in capsys.readouterr().err


def test_renamed_keys_lead_to_keys_that_exist() -> None:
    known = set(every_key(Settings))
    assert not set(RENAMED) & known
    for old, new in RENAMED.items():
        section, _, name = old.partition(".")
        assert f"{section}.{new}" in known
        with pytest.raises(ConfigError, match=rf"{section}\.{name}: unknown key\. It is now called {new}\.$"):
            parse({section: {name: 1}})
        with pytest.raises(
            ConfigError, match=rf"set\.{section}\.{name}: .*It is now called {new}\.|cannot be overridden"
        ):
            parse({"overrides": [{"where": {"category": "a"}, "set": {old: 1}}]})
        with pytest.raises(
            ConfigError, match=rf"{section}\.{name}: no such key\. It is now called {section}\.{new}\.$"
        ):
            explain(old, Settings())


def test_values_that_look_like_others_survive_the_generated_config(tmp_path: Path) -> None:
    settings = parse({"dataset": {"name": "1e5", "categories": ["01", "no", "1:30"]}})
    (tmp_path / "c.yaml").write_text(commented_yaml(settings, "A head."))
    assert load(tmp_path / "c.yaml") == settings
