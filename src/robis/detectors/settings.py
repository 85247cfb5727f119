"""The whole config: the shared options and a section for every detector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from robis.config import settings as config
from robis.config.settings import SharedSettings
from robis.detectors.registry import BASE, DETECTORS


def _settings() -> type[SharedSettings]:
    names: Any = Literal[tuple(DETECTORS)]
    default = Field([BASE.name], description="Detectors to run.")
    sections: dict[str, Any] = {
        name: (detector.option_model, detector.option_model()) for name, detector in DETECTORS.items()
    }
    model = create_model(
        "Settings",
        __base__=SharedSettings,
        __doc__="The whole config, checked.",
        detectors=(Annotated[list[names], Field(min_length=1)], default),
        **sections,
    )
    model.RUN_KEYS = tuple(key for detector in DETECTORS.values() for key in detector.run_keys)
    return model


Settings = _settings()


def parse(values: Mapping[str, Any], source: str = "config") -> SharedSettings:
    """Check a config given as nested dicts. Raises ConfigError that lists every mistake in it."""
    return config.parse(values, Settings, source)


def load(*paths: str | Path, changes: Mapping[str, Any] | None = None) -> SharedSettings:
    """Read and check YAML config files; later ones win, key by key. Raises ConfigError.

    Args:
        paths: the files.
        changes: what `snakemake --config` made of its arguments; they win over the files.
    """
    return config.load(paths, Settings, changes)
