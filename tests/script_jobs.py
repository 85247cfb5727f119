"""The workflow's scripts, run in this process on the files that the rules name: Snakemake's part in a few lines."""

from __future__ import annotations

import re
import runpy
from collections import UserDict, defaultdict
from collections.abc import ItemsView, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from robis.detectors.settings import parse
from robis.workflow import results
from robis.workflow.evidence import normal_inputs
from robis.workflow.packs import pack_inputs, pack_split
from robis.workflow.params import Params
from robis.workflow.project import Project
from tests.conftest import REPOSITORY


class Named(SimpleNamespace):
    """Files or wildcards of a job by name."""

    def get(self, name: str, default: Any = None) -> Any:
        return getattr(self, name, default)

    def items(self) -> ItemsView[str, Any]:
        return vars(self).items()


class WatchedOptions(UserDict[str, Any]):
    """Options that remember which of them were read."""

    def __init__(self, values: Mapping[str, Any], read: set[str]) -> None:
        super().__init__(values)
        self.was_read = read

    def __getitem__(self, name: str) -> Any:
        self.was_read.add(name)
        return super().__getitem__(name)


class WatchedParams(Params):
    """A job's parameters whose options remember which of them were read."""

    def __init__(self, params: Params, read: set[str]) -> None:
        super().__init__(params)
        self.unwatched, self.identity, self.was_read = params.unwatched, params.identity, read

    def options(self) -> Any:
        return WatchedOptions(super().options(), self.was_read)


class ScriptJobs:
    """Jobs of a config for one category.

    Attributes:
        read: stage -> names of the options that its code has read.
    """

    def __init__(self, config: Mapping[str, Any], folder: Path) -> None:
        self.project = Project(parse(config), folder)
        self.category = self.project.categories[0]
        self.read: dict[str, set[str]] = defaultdict(set)

    def place(self, pattern: str, run: str = "", split: str = "", **fields: str) -> Path:
        """Where a file lies; the pattern is one of `robis.workflow.results`."""
        fields = {"detector": run, "category": self.category, "split": split, **fields}
        return results.place(pattern, self.project.results, **fields)

    def finish(self, run: str, split: str) -> None:
        """Do what the maps of a run's split need, and `infer`; what is there already stays."""
        for stage in self.own_stages(run):
            self.do(stage, run, split)
        if self.project.trains(detector=run, category=self.category, split=split):
            self.train(run)
        self.infer(run, split)

    def own_stages(self, run: str) -> list[str]:
        """A detector's own stages before `train`."""
        stages = self.project.variants[run].detector.stages
        return [stage for stage in stages if stage not in ("train", "infer")]

    def do(self, stage: str, run: str, split: str) -> None:
        """A stage of the detector's own."""
        per = self.project.variants[run].detector.stages[stage].per
        outputs = {name: self.place(pattern, run, split) for name, pattern in own_outputs(stage).items()}
        reads_tiles = "tiles_of" in (REPOSITORY / "rules" / f"{stage}.smk").read_text()
        inputs = self.tiles(run, split) if reads_tiles else {}
        names = {"detector": run if "run" in per else None, "split": split if "split" in per else None}
        self.run(stage, inputs, outputs, **names)

    def train(self, run: str) -> None:
        outputs = {"model": self.place(results.MODEL, run), "history": self.place(results.HISTORY, run)}
        self.run("train", self.tiles(run, "train"), outputs, detector=run)

    def infer(self, run: str, split: str, **inputs: list[str]) -> None:
        """The rule `infer`, in as many shards as the config asks for; `inputs` replace those of the rule."""
        job = {"detector": run, "category": self.category, "split": split}
        of_rule: dict[str, list[str]] = self.tiles(run, split)
        of_rule["model"] = [str(self.place(results.MODEL, run))] if self.project.trains(**job) else []
        for name, (stage, pattern) in own_inputs_of("infer").items():
            of_rule[name] = [str(self.place(pattern, run, split))] if self.project.has_stage(stage, run) else []
        shards = self.project.shards(**job)
        parts = {"shards": results.SHARD_MAPS, "shard_tables": results.SHARD_TABLE} if shards > 1 else {}
        of_rule |= {"shards": [], "shard_tables": []}
        for shard in range(shards) if parts else []:
            places = {name: self.place(pattern, run, split, shard=str(shard)) for name, pattern in parts.items()}
            written = {"maps": places["shards"], "table": places["shard_tables"]}
            self.run("infer_shard", of_rule | inputs, written, detector=run, split=split, shard=str(shard))
            for name, path in places.items():
                of_rule[name].append(str(path))
        outputs = {"maps": results.TILE_MAPS, "table": results.TILE_MAP_TABLE}
        written = {name: self.place(pattern, run, split) for name, pattern in outputs.items()}
        self.run("infer", of_rule | inputs, written, detector=run, split=split)

    def pack(self, run: str) -> Path:
        """All stages of a run to its pack, without metrics."""
        split = pack_split(self.project, self.category)
        job = {"detector": run, "category": self.category, "split": split}
        scaling = self.project.reference_split("merge.normalize", **job)
        ranges = [str(self.place(results.TILE_MAPS, run, "validation"))] if scaling else []
        for part in ("validation", split):
            self.finish(run, part)
            self.merge(run, part, ranges)
        self.masks(run, split, ranges)
        inputs = pack_inputs(self.project, run, self.category) | {"metrics": []}
        for name, (stage, pattern) in own_inputs_of("pack").items():
            inputs[name] = [str(self.place(pattern, run, split))] if self.project.has_stage(stage, run) else []
        folder = self.place(results.PACK, run)
        self.run("pack", inputs, {"pack": folder}, detector=run)
        return folder

    def merge(self, run: str, split: str, ranges: list[str]) -> None:
        """The rule `merge`; ranges: raw maps that set the range."""
        patterns = {"maps": results.TILE_MAPS, "table": results.TILE_MAP_TABLE, "samples": results.SAMPLES}
        inputs: dict[str, Any] = {name: str(self.place(pattern, run, split)) for name, pattern in patterns.items()}
        maps = self.place(results.ANOMALY_MAPS, run, split)
        inputs |= {"range_maps": ranges, "range_table": self._tables_of(ranges)}
        self.run("merge", inputs, {"maps": maps}, detector=run, split=split)

    def masks(self, run: str, split: str, ranges: list[str]) -> None:
        """The stages from anomaly maps to image scores, with thresholds and limit of the validation split."""

        def of(pattern: str, part: str = split) -> str:
            return str(self.place(pattern, run, part))

        def do(stage: str, inputs: Mapping[str, Any], **patterns: str) -> None:
            outputs = {name: self.place(pattern, run, split) for name, pattern in patterns.items()}
            self.run(stage, inputs, outputs, detector=run, split=split)

        maps = {"samples": of(results.SAMPLES), "maps": of(results.ANOMALY_MAPS), "tiles": of(results.TILE_MAP_TABLE)}
        reference = {
            "reference_samples": [of(results.SAMPLES, "validation")],
            "reference_maps": [of(results.ANOMALY_MAPS, "validation")],
        }
        do("binarize", maps | reference, masks=results.COARSE_MASKS, thresholds=results.THRESHOLDS)
        held_out = {
            "held_out_samples": of(results.SAMPLES, "validation"),
            "held_out_maps": of(results.TILE_MAPS, "validation"),
            "held_out_tiles": of(results.TILE_MAP_TABLE, "validation"),
            "range_maps": ranges,
            "range_table": self._tables_of(ranges),
        }
        do("judge", maps | held_out, verdicts=results.VERDICTS, held_out_scores=results.HELD_OUT_SCORES)
        emptied = self.project.empties_masks(detector=run, category=self.category, split=split)
        coarse = {"coarse": of(results.COARSE_MASKS), "verdicts": [of(results.VERDICTS)] if emptied else []}
        do("refine", maps | coarse, masks=results.MASKS)
        do("score_images", maps | {"masks": of(results.MASKS), "embeddings": []}, table=results.IMAGE_SCORES)

    def describe(self, run: str, split: str) -> dict[str, Path]:
        """The rule `describe_regions`; what it writes, by name."""
        job = {"detector": run, "category": self.category, "split": split}
        inputs: dict[str, Any] = {**self.tiles(run, split), **normal_inputs(self.project, **job)}
        for table in inputs["normal_table"]:
            self.tiles(run, Path(table).stem)
        patterns = {"samples": results.SAMPLES, "masks": results.MASKS, "maps": results.ANOMALY_MAPS}
        inputs |= {name: str(self.place(pattern, run, split)) for name, pattern in patterns.items()}
        inputs["model"] = [str(self.place(results.MODEL, run))] if self.project.trains(**job) else []
        written = {"table": results.REGIONS, "embeddings": results.REGION_EMBEDDINGS, "evidence": results.EVIDENCE}
        outputs = {name: self.place(pattern, run, split) for name, pattern in written.items()}
        self.run("describe_regions", inputs, outputs, detector=run, split=split)
        return outputs

    @staticmethod
    def _tables_of(maps: list[str]) -> list[str]:
        return [str(Path(path).with_suffix(".parquet")) for path in maps]

    def tiles(self, run: str, split: str) -> dict[str, list[str]]:
        """The tiles that a run reads of a split, cut if they are not there."""
        owner = self.project.tiles_owner(detector=run, category=self.category, split=split)
        patterns = {"tiles": results.TILES, "table": results.TILE_TABLE}
        folder = f"{owner}/" if owner else ""
        written = {name: self.place(pattern, run, split, owner=folder) for name, pattern in patterns.items()}
        if not written["tiles"].exists():
            samples = self.place(results.SAMPLES, split=split)
            self.run("index", {}, {"table": samples}, split=split)
            self.run("crop", {"samples": samples}, written, detector=owner or None, split=split)
        return {name: [str(path)] for name, path in written.items()}

    def run(self, stage: str, inputs: Mapping[str, Any], outputs: Mapping[str, Path], **names: str | None) -> None:
        """Run a script as its rule does."""
        names = {"category": self.category, **names}
        shard = names.pop("shard", None)
        settings = WatchedParams(self.project.params(stage, **names), self.read[stage])
        snakemake = SimpleNamespace(
            input=Named(**inputs),
            output=Named(**{name: str(path) for name, path in outputs.items()}),
            params=SimpleNamespace(settings=settings),
            wildcards=Named(**{name: value for name, value in {**names, "shard": shard}.items() if value}),
            threads=1,
            resources={},
            log=[str(self.project.results / "logs" / f"{stage}.log")],
            rule=stage,
        )
        script = REPOSITORY / "workflow_scripts" / f"{stage}.py"
        runpy.run_path(str(script), {"snakemake": snakemake})


def own_outputs(stage: str) -> dict[str, str]:
    """What the rule of a detector's own stage writes: name -> pattern of `robis.workflow.results`."""
    rule = (REPOSITORY / "rules" / f"{stage}.smk").read_text()
    section = rule.partition("output:")[2].partition("log:")[0]
    return {name: getattr(results, pattern) for name, pattern in re.findall(r"(\w+)=results\.(\w+)", section)}


def own_inputs_of(rule_name: str) -> dict[str, tuple[str, str]]:
    """What a rule reads of detectors' own stages: name -> stage and pattern of the file."""
    rule = (REPOSITORY / "rules" / f"{rule_name}.smk").read_text()
    entries = re.findall(r'(\w+)=of_stage\(\s*"(\w+)", results\.(\w+)', rule)
    return {name: (stage, getattr(results, pattern)) for name, stage, pattern in entries}
