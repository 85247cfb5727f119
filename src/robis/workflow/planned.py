"""One job as its stage sees it when it is planned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robis.config.settings import SharedSettings
from robis.config.stage import Stage
from robis.encoders.names import architecture_of, builder_of, weights_file
from robis.workflow.params import Params


@dataclass(frozen=True)
class PlannedJob:
    """A job: see `robis.config.stage.Job`.

    Attributes:
        stage: what it runs and reads.
        settings: the settings that hold for it.
        run, category, split: what it is of; None for a job of all of them.
        file_digest: gives the digest of a file's content; None where there is no file.
    """

    stage: Stage
    settings: SharedSettings
    run: str | None
    category: str | None
    split: str | None
    file_digest: Callable[[str | Path], str | None]

    def options(self) -> tuple[dict[str, object], set[str]]:
        """Options that the stage's function takes, and the names of those that never make its result stale."""
        passed = [option for option in self.stage.reads if option.passed]
        values = {option.name: self.settings.get(option.key) for option in passed}
        unwatched = {option.name for option in passed if not option.stale or not option.is_read(self.settings)}
        return values, unwatched

    def encoder(self) -> tuple[Params, dict[str, object]]:
        """The argument `encoder` of the stage's function, and what identifies it: digests and its registry entry."""
        values = self.settings.encoder.model_dump(include={*self.stage.encoder, "sha256"})
        name = str(values["name"])
        digest = self.file_digest(weights_file(name, values["weights"]))
        identity: dict[str, object] = {"weights_digest": digest, "architecture": architecture_of(name)}
        if name.endswith(".json"):
            identity["architecture_digest"] = self.file_digest(name)
        return Params.of(values, unwatched=("sha256", "weights") if digest else ("sha256",)), identity

    def code(self) -> tuple[str, ...]:
        """Where the digest of the job's code starts: the stage's function, and the family of its encoder."""
        return (self.stage.run, *([builder_of(self.settings.encoder.name)] if self.stage.encoder else []))
