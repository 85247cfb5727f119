"""What makes the result of one stage of the workflow stale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

A_NUMBER = "a number"


@dataclass(frozen=True)
class Stage:
    """One stage, as the workflow and the docs see it.

    Attributes:
        module: the library module it runs.
        options: dotted keys, or sections, that its code takes by the key's own name.
        also: dotted keys that it depends on in another form: a value derived from them, or another input.
        unwatched: options that never make a result stale: they say where something is, or how often to save.
        only_with: option -> (option that selects, values with which it is read at all).
        sometimes: dotted key -> the condition, in words, under which it counts.
        after: the stages whose outputs it reads.
        reads_images: whether it opens the dataset's files.
        encodes: keys of the encoder that it takes, without the section's name.
    """

    module: str
    options: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    only_with: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    sometimes: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    reads_images: bool = False
    encodes: tuple[str, ...] = ()

    def option_keys(self) -> Iterator[tuple[str, str]]:
        """(option, dotted key) of everything the stage's code takes from the config."""
        # Jobs look a detector up here and need no settings, nor pydantic, which takes a while to import.
        from robis.config.settings import section_of

        for key in self.options:
            section, _, name = key.partition(".")
            for option in [name] if name else section_of(section).model_fields:
                yield option, f"{section}.{option}"

    def ignored(self, options: Mapping[str, object]) -> list[str]:
        """Options that are not read with these values of the others."""

        def chosen(selector: str, values: tuple[str, ...]) -> bool:
            value = options[selector]
            return (A_NUMBER if isinstance(value, int) else value) in values

        return [option for option, (selector, values) in self.only_with.items() if not chosen(selector, values)]

    def reads(self, key: str) -> tuple[bool, str | None]:
        """Whether a changed key makes the result stale, and under which condition, in words."""
        if key in self.also or key in [f"encoder.{name}" for name in self.encodes]:
            return True, None
        if key in self.sometimes:
            return True, self.sometimes[key]
        for option, dotted in self.option_keys():
            if dotted == key and option not in self.unwatched:
                return True, self._condition(option, key)
        return False, None

    def _condition(self, option: str, key: str) -> str | None:
        if option not in self.only_with:
            return None
        selector, values = self.only_with[option]
        section = "tiling" if selector == "window" else key.partition(".")[0]
        return f"with {section}.{selector} {' or '.join(values)}"
