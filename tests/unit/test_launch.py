"""How `robis run` starts Snakemake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from robis.encoders.names import own_input_size
from robis.errors import ConfigError
from robis.workflow.launch import command
from tests.conftest import REPOSITORY

SNAKEMAKE = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
PRESETS = sorted((REPOSITORY / "config").glob("*.yaml"))
DEMO = str(REPOSITORY / "config" / "demo.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_arguments_are_passed_on(folder: Path) -> None:
    (folder / "parts.yaml").touch()
    arguments = ["masks", "-n", "--config", "dataset={name: slurm}", "slurm"]
    assert command(Path("parts.yaml"), arguments) == [*SNAKEMAKE, "--configfile=parts.yaml", *arguments]


def test_a_second_config_changes_the_first() -> None:
    assert command(Path("demo"), ["-n", "--configfile", "tonight.yaml"]) == [
        *(*SNAKEMAKE, "-n", "--configfile", DEMO, "tonight.yaml")
    ]


def test_a_config_that_comes_with_robis_is_given_by_its_name(folder: Path) -> None:
    assert command(Path("demo")) == [*SNAKEMAKE, f"--configfile={DEMO}"]
    (folder / "demo").touch()
    assert command(Path("demo")) == [*SNAKEMAKE, "--configfile=demo"], "a file of the user comes first"


@pytest.mark.parametrize("name", ["slurm", "profiles/slurm"])
def test_a_profile_that_comes_with_robis_is_given_by_its_name(folder: Path, name: str) -> None:
    ours = str(REPOSITORY / "profiles" / "slurm")
    assert command(Path("demo"), ["--workflow-profile", name])[-2:] == ["--workflow-profile", ours]
    assert command(Path("demo"), [f"--workflow-profile={name}"])[-1] == f"--workflow-profile={ours}"
    (folder / name).mkdir(parents=True)
    assert command(Path("demo"), ["--workflow-profile", name])[-1] == name, "a folder of the user comes first"


def test_an_unknown_profile_is_left_to_snakemake() -> None:
    assert command(Path("demo"), ["--workflow-profile", "site"])[-1] == "site"


def test_a_config_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"parts\.yaml: no such config file.*robis init FOLDER.*demo, demo_zero"):
        command(Path("parts.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda file: file.stem)
def test_the_encoders_of_a_preset_are_known_in_any_folder(preset: Path) -> None:
    config = yaml.safe_load(preset.read_text())
    changes = [entry["set"].get("encoder.name") for entry in config.get("overrides", [])]
    for name in filter(None, [config.get("encoder", {}).get("name"), *changes]):
        assert own_input_size(name) > 0
