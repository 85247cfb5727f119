"""Config files are YAML 1.2 in UTF-8: nothing is converted silently, and each mistake names its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from robis.config.yaml_files import from_command_line, merged, plain, read_config, to_yaml
from robis.detectors.settings import Settings, load, parse
from robis.errors import ConfigError

DOUBLED = """\
merge: {scale: 0.5}
refine:
  method: none
merge: {blend: mean}
"""


def written(folder: Path, text: str | bytes, name: str = "c.yaml") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # The table of YAML 1.2, section 10.3.2.
        *[(text, None) for text in ("null", "Null", "NULL", "~", "")],
        *[("true", True), ("True", True), ("FALSE", False), ("0", 0), ("-12", -12), ("0o17", 15), ("0xFf", 255)],
        *[("1e-3", 0.001), (".5", 0.5), ("-1.", -1.0), ("+12e03", 12000.0), ("-.inf", -float("inf"))],
        # What YAML 1.1 makes something else of.
        *[(text, text) for text in ("yes", "no", "On", "off", "y", "1:30", "2026-11-02", "10_000", "0b1", "=")],
        # Names of categories, not numbers.
        *[(text, text) for text in ("01", "010", "00", "-01", "007.5")],
        *[("'1'", "1"), ('"true"', "true"), ("!!str 1", "1"), ("<<", "<<")],
    ],
)
def test_values_are_read_as_yaml_1_2_with_leading_zeros_as_text(tmp_path: Path, text: str, value: Any) -> None:
    read = plain(read_config(written(tmp_path, f"a: {text}\n")))["a"]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize("value", ["1e-3", "01", "no", "1:30", "0o7", "", "null", ".inf", "1.5", "a: b", "é", "<<"])
def test_texts_come_back_from_what_is_written(tmp_path: Path, value: str) -> None:
    assert plain(read_config(written(tmp_path, to_yaml({"a": [value]})))) == {"a": [value]}


def test_anchors_and_merge_keys_are_expanded(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc: {<<: [*a, *b], x: 5}\nd: *a\n"
    assert plain(read_config(written(tmp_path, text))) == {
        "a": {"x": 1, "y": 2},
        "b": {"y": 3, "z": 4},
        "c": {"x": 5, "y": 2, "z": 4},
        "d": {"x": 1, "y": 2},
    }


def test_keys_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    assert "on: unknown key." in refusal(written(tmp_path, "on: 1\n"))
    assert "2026-11-02: unknown key." in refusal(written(tmp_path, "2026-11-02: 1\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DOUBLED, "c.yaml, line 4: the key 'merge' is given twice, first in line 1. Remove one of them."),
        ("merge:\n  scale: 1\n  scale: 0.5\n", "line 3: the key 'scale' is given twice, first in line 2."),
        ("overrides:\n- where: {category: a, category: b}\n", "line 2: the key 'category' is given twice, first in"),
        ("merge:\n\tscale: 1\n", "line 2: found a tab; YAML is indented with spaces only."),
        ("merge: [1\n", "line 2: expected ',' or ']', but got '<stream end>'."),
        ("? [a]\n: b\n", "line 1: found a list or mapping as a key; expected a text."),
        ("merge: !!python/name:os.system\n", "expected a value without a tag."),
        ("merge: !!int yes\n", "expected a value without a tag."),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document."),
        ("- a\n", "c.yaml: found a list; expected keys such as dataset: and tiling:."),
        ("", "c.yaml: found nothing; expected keys such as dataset: and tiling:."),
        ("just words\n", "c.yaml: found a single value; expected keys"),
        ("a: &a [*a]\n", "line 1: the values are nested too deeply; expected at most 20 levels."),
        ("a: " + "[" * 5000, "the values are nested too deeply"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{n}: &{n} [{','.join(['*' + b] * 10)}]\n" for b, n in zip("abcdef", "bcdefg", strict=True)),
            "anchors make more than 100,000 values of this file.",
        ),
        ("a: b\0c\n", "c.yaml: this is not a YAML file (unacceptable character #x0000"),
        (b"# " + b"x" * 1_000_000, "c.yaml: found a file of more than 1 MB"),
        (
            b"merge:\n  # f\xfcr alle\n",
            "c.yaml, line 2: found the byte 0xfc, which is not UTF-8 ('\u00fc' in Latin-1). Save",
        ),
        (
            "merge: {}\n".encode("utf-16"),
            "found a file in UTF-16 or UTF-32; expected UTF-8. Save the file with the encoding",
        ),
        ("merge: {}\n".encode("utf-16-le"), "found a file in UTF-16 or UTF-32"),
        ("merge: {}\n".encode("utf-32"), "found a file in UTF-16 or UTF-32"),
    ],
)
def test_a_file_that_cannot_be_used_gives_one_message_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(written(tmp_path, text))


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.yaml").endswith(
        "absent.yaml: this config file cannot be read (No such file or directory)."
    )
    assert "cannot be read (Is a directory)." in refusal(tmp_path)


def test_a_byte_order_mark_of_utf_8_is_accepted(tmp_path: Path) -> None:
    assert load(written(tmp_path, "merge: {scale: 0.5}\n".encode("utf-8-sig"))).merge.scale == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inp_former: {epochs: yes}", "inp_former.epochs: found 'yes'; expected an integer from 1 to 100000."),
        ("inp_former: {epochs: true}", "inp_former.epochs: found true; expected an integer from 1 to 100000."),
        ("inp_former: {epochs: 010}", "inp_former.epochs: found '010'; expected an integer from 1 to 100000."),
        ("inp_former: {epochs: '10'}", "found '10'; expected an integer from 1 to 100000. Remove the quotes."),
        ("inp_former: {seed: 1.0}", "inp_former.seed: found 1.0; expected an integer from 0 to 9223372036854775807."),
        ("merge: {scale: on}", "merge.scale: found 'on'; expected a number above 0 and at most 1."),
        ("merge: {scale: .nan}", "merge.scale: found .nan; expected a number above 0 and at most 1."),
        ("inp_former: {augment: yes}", "inp_former.augment: found 'yes'; expected true or false."),
        ("inp_former: {augment: 1}", "inp_former.augment: found 1; expected true or false."),
        ("dataset: {name: 1.10}", "with no dot or space at its ends. Put it in quotes: '1.10'."),
        ("dataset: {root: true}", "dataset.root: found true; expected text. Put it in quotes: 'true'."),
        ("dataset: {categories: [0x10]}", "Put it in quotes: '0x10'."),
        (
            "overrides: [{where: {category: 7}, set: {merge.scale: 1}}]",
            "overrides.0.where.category: found 7; expected text or a list of one or more entries, each text. "
            "Put it in quotes: '7'.",
        ),
        (
            "dataset:\n",
            "dataset: found null; expected keys such as name: and layout:. Remove the line, or give it keys.",
        ),
    ],
)
def test_the_value_is_named_as_it_is_written(tmp_path: Path, text: str, message: str) -> None:
    mistakes = refusal(written(tmp_path, text)).splitlines()
    assert len(mistakes) == 2, "the headline and one mistake"
    assert mistakes[1].endswith(message)


def test_categories_with_leading_zeros_need_no_quotes(tmp_path: Path) -> None:
    assert load(written(tmp_path, "dataset: {categories: [01, 02]}")).dataset.categories == ["01", "02"]


def test_later_files_and_the_command_line_win_key_by_key(tmp_path: Path) -> None:
    first = written(tmp_path, "merge: {scale: 0.5, blend: feather}\ndataset: {splits: [a, b]}\n")
    second = written(tmp_path, "merge: {scale: 0.25}\ndataset: {splits: [c]}\n", "d.yaml")
    settings = load(first, second, changes={"merge": {"normalize": "validation"}})
    assert (settings.merge.scale, settings.merge.blend, settings.merge.normalize) == (0.25, "feather", "validation")
    assert settings.dataset.splits == ["c"]


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        # As `snakemake --config` gives its arguments: every value a text, its quotes lost.
        ({"merge": {"scale": "0.5"}}, "merge.scale", 0.5),
        ({"tiling": {"window": "256"}}, "tiling.window", 256),
        ({"tiling": {"window": "image"}}, "tiling.window", "image"),
        ({"inp_former": {"augment": "false"}}, "inp_former.augment", False),
        ({"refine": {"sha256": "null"}}, "refine.sha256", None),
        ({"dataset": {"name": "1"}}, "dataset.name", "1"),
        ({"dataset": {"categories": ["01", "2"]}}, "dataset.categories", ["01", "2"]),
        ({"detectors": ["musc"]}, "detectors", ["musc"]),
    ],
)
def test_the_command_line_gives_what_the_option_takes(changes: dict[str, Any], key: str, value: Any) -> None:
    read = parse(from_command_line(changes)).get(key)
    assert (type(read), read) == (type(value), value)


def test_the_command_line_reaches_overrides() -> None:
    changes = {"overrides": [{"where": {"category": "7"}, "set": {"winclip.class_name": "12", "merge.scale": "0.5"}}]}
    settings = parse(from_command_line(changes))
    assert settings.overridden(category=["7"]).get("winclip.class_name") == "12"
    with pytest.raises(ConfigError, match=r"merge\.scale: found nan; expected|merge\.scale: found \.nan; expected"):
        parse(from_command_line({"merge": {"scale": ".nan"}}))


def test_merging_replaces_what_is_no_mapping() -> None:
    assert merged({"a": {"b": 1, "c": [1, 2]}}, {"a": {"c": [3]}, "d": {"e": 1}}) == {
        "a": {"b": 1, "c": [3]},
        "d": {"e": 1},
    }
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert Settings.model_validate({}) == parse({})
