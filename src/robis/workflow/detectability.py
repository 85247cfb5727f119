"""What the stage `measure_detectability` reads besides options and packs: the user's own defects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robis.config.settings import SharedSettings
from robis.config.stage import Derived
from robis.errors import ConfigError
from robis.io.names import expanded


def crop_files(settings: SharedSettings) -> list[Path]:
    """The PNG files of `detectability.crops`, sorted; none where the config names no folder.

    Raises ConfigError where there are none in the folder, or no kind of defect is left to try.
    """
    given = settings.detectability.crops
    if given is None:
        if not settings.detectability.kinds:
            raise ConfigError("detectability.kinds: found []; expected a kind, or a folder in detectability.crops.")
        return []
    files = sorted(expanded(given).glob("*.png"))
    if not files:
        raise ConfigError(
            f"detectability.crops: {given} has no .png files. Expected a folder of defects with an alpha channel."
        )
    return files


def tried(settings: SharedSettings, root: Path, digest_of: Callable[[Path], str | None]) -> Derived:
    """The parameters of the stage that are no option: places, and what the crops are."""
    files = crop_files(settings)
    values = {"root": str(root), "crops": [str(file) for file in files]}
    return Derived(values, frozenset(values), {"crop_digests": [digest_of(file) for file in files]})
