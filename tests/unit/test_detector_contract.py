"""What every registered detector keeps, run by the workflow's own scripts on a tiny encoder and generated images.

A detector whose defaults take long adds small values of its options to SMALL.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from robis.config.settings import every_key
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import Settings, parse
from robis.errors import ConfigError, DataError, RobisError, WeightsError
from robis.io import arrays
from robis.io.maps import write_map, write_mask
from robis.io.samples import read_samples
from robis.workflow import results
from robis.workflow.checks import check_plan, plan_warnings
from robis.workflow.project import Project
from robis.workflow.runs import effective
from tests.detector_jobs import read_banks
from tests.script_jobs import ScriptJobs
from tests.tiny_clip import write_config
from tests.unit.trees import write_image

# Values of options that make a tiny job of any detector that has them, and use all that it does.
SMALL: dict[str, Any] = {
    "epochs": 3,
    "steps": 6,
    "batch_size": 4,
    "prototypes": 2,
    "warmup_steps": 1,
    "checkpoint_every": 1,
    "subsets": 2,
    "bank_size": 40,
    "rounds": 3,
    "neighbors": 3,
    "shots": [0, 2],
    "rotations": 2,
    "scales": [2],
    "reference_images": 3,
}
SPLIT, FEW, MANY = "test_public", "test_private", "test_private_mixed"
IMAGES = {"train/good": 5, f"{SPLIT}/good": 5, FEW: 18, MANY: 36}
# Images of 64 x 96 pixels, two tiles each.
TILE, SCALE = 64, 0.5
SEEDS = ("seed", "seeds")
# Values that make no sense for most options.
ABSURD: tuple[Any, ...] = (-1, 0, 10**12, 1.5, True, "", "nonsense", [], [-1], [None], {}, {"a": 1}, None)
ABSURD = (*ABSURD, float("nan"), float("inf"))


def has(name: str, *options: str) -> list[str]:
    """Those of some options that a detector has."""
    return [option for option in options if option in DETECTORS[name].option_model.model_fields]


def with_shards() -> list[str]:
    settings = parse({"infer": {"shards": 2}})
    return [name for name, detector in DETECTORS.items() if detector.shards(settings) > 1]


TRAINED = [name for name, detector in DETECTORS.items() if "train" in detector.stages]
WITH_ENCODER = [name for name in TRAINED if DETECTORS[name].stages["infer"].encoder]
WITH_BANK = [name for name, detector in DETECTORS.items() if detector.allow_key]
WITH_MEMORY = [name for name in DETECTORS if has(name, "memory_gb")]
each_detector = pytest.mark.parametrize("name", DETECTORS)


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a job does to its process; compute on the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    root = logging.getLogger()
    before = root.handlers[:], root.level, torch.get_num_threads(), cv2.getNumThreads()
    yield
    for handler in set(root.handlers) - set(before[0]):
        handler.close()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    torch.set_num_threads(before[2])
    cv2.setNumThreads(before[3])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images in the layout mvtec_ad_2, and model configs of two CLIPs."""
    folder = tmp_path_factory.mktemp("contract")
    rng = np.random.default_rng(0)
    for split, count in IMAGES.items():
        for number in range(count):
            coarse = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
            path = folder / "images" / "nut" / split / f"{number:03}.png"
            write_image(path)
            cv2.imwrite(str(path), cv2.resize(coarse, (96, 64), interpolation=cv2.INTER_CUBIC))
    for clip in ("clip.json", "other_clip.json"):
        write_config(folder, clip)
    return folder


def encoders(data: Path) -> list[tuple[dict[str, Any], str]]:
    """Tiny encoders, each with the name of another that has tensors of the same shapes."""
    vit = {"name": "vit_tiny_patch16_224", "input_size": TILE, "blocks": [1, 3]}
    clip = {"name": str(data / "clip.json"), "blocks": [1, 2]}
    return [(vit, "deit_tiny_patch16_224"), (clip, str(data / "other_clip.json"))]


def make_config(name: str, data: Path, **options: Any) -> dict[str, Any]:
    """A config of one detector with the first tiny encoder that it takes."""
    for encoder, _ in encoders(data):
        values = {option: value for option, value in SMALL.items() if has(name, option)} | options
        config = {
            "dataset": {"name": "tiny", "root": str(data / "images"), "splits": [SPLIT, FEW, MANY]},
            "detectors": [name],
            "encoder": encoder | {"weights": "random"},
            "tiling": {"window": TILE, "overlap": 0, "edge": "shift"},
            "merge": {"scale": SCALE},
            "infer": {"batch_size": 4},
            "refine": {"method": "none"},
            name: values,
        }
        settings = parse(config)
        try:
            DETECTORS[name].check_options(effective(settings, detector=name))
        except ConfigError:
            continue
        return config
    raise AssertionError(f"{name} takes none of the tiny encoders")


def of_other_encoder(config: dict[str, Any], data: Path) -> dict[str, Any]:
    other = {encoder["name"]: name for encoder, name in encoders(data)}[config["encoder"]["name"]]
    return config | {"encoder": config["encoder"] | {"name": other}}


Finish = Callable[..., ScriptJobs]


@pytest.fixture(scope="module")
def finish(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finish:
    """Runs all runs of a detector to their maps, once for all tests that ask for the same."""
    done: dict[str, ScriptJobs] = {}

    def of(name: str, **options: Any) -> ScriptJobs:
        key = repr((name, options))
        if key not in done:
            done[key] = run_all(make_config(name, data, **options), tmp_path_factory.mktemp(name))
        return done[key]

    return of


def run_all(config: dict[str, Any], folder: Path) -> ScriptJobs:
    jobs = ScriptJobs(config, folder)
    check_plan(jobs.project)
    for run in jobs.project.detectors:
        jobs.finish(run, SPLIT)
    return jobs


def trains(jobs: ScriptJobs, run: str) -> bool:
    return jobs.project.trains(detector=run, category=jobs.category, split=SPLIT)


def trained_run(jobs: ScriptJobs) -> str:
    return next(run for run in jobs.project.detectors if trains(jobs, run))


def written(jobs: ScriptJobs, run: str) -> dict[str, bytes]:
    """What must be the same to the byte however it came about: the model, the maps and their table."""
    patterns = [results.TILE_MAPS, results.TILE_MAP_TABLE, *([results.MODEL] if trains(jobs, run) else [])]
    return {pattern.rpartition("}")[0]: jobs.place(pattern, run, SPLIT).read_bytes() for pattern in patterns}


def everything(jobs: ScriptJobs) -> list[dict[str, bytes]]:
    return [written(jobs, run) for run in jobs.project.detectors]


@each_detector
def test_maps_and_tables_are_as_documented(name: str, finish: Finish) -> None:
    jobs = finish(name)
    side = round(TILE * SCALE)
    for run in jobs.project.detectors:
        tiles = pd.read_parquet(jobs.tiles(run, SPLIT)["table"][0])
        maps = np.load(jobs.place(results.TILE_MAPS, run, SPLIT))
        assert maps.dtype in (np.float16, np.float32)
        assert maps.shape == (len(tiles), side, side) == (10, side, side)
        assert np.isfinite(maps).all()
        assert len(np.unique(maps)) > 100, "maps that tell nothing apart"
        table = pd.read_parquet(jobs.place(results.TILE_MAP_TABLE, run, SPLIT))
        rated = ["score", "embedding"] if DETECTORS[name].rates_images else []
        assert table.columns.tolist() == [*tiles.columns, *rated]
        pd.testing.assert_frame_equal(table[tiles.columns], tiles)
        if rated:
            assert table["score"].dtype == np.float32 and np.isfinite(table["score"]).all()
            embeddings = np.stack(table["embedding"])
            assert embeddings.dtype == np.float32 and embeddings.ndim == 2 and np.isfinite(embeddings).all()


@pytest.mark.parametrize("name", [name for name, detector in DETECTORS.items() if detector.has_encoder])
def test_regions_have_embeddings_and_those_that_can_be_explained_have_evidence(name: str, finish: Finish) -> None:
    jobs = finish(name)
    run = jobs.project.detectors[0]
    samples = read_samples(jobs.place(results.SAMPLES, split=SPLIT))
    for number, sample in enumerate(samples):
        mask = np.zeros((sample.height, sample.width), bool)
        mask[8 : 8 + 4 * number, 8:40] = True
        write_mask(jobs.place(results.MASKS, run, SPLIT) / f"{sample.sample_id}.png", mask)
        write_map(jobs.place(results.ANOMALY_MAPS, run, SPLIT) / f"{sample.sample_id}.tiff", mask.astype(np.float16))
    written = jobs.describe(run, SPLIT)
    regions, evidence = (pd.read_parquet(written[kind]) for kind in ("table", "evidence"))
    assert regions["sample_id"].tolist() == [sample.sample_id for sample in samples[1:]], "the first mask is empty"
    embeddings = np.load(written["embeddings"])
    assert embeddings.dtype == np.float32 and len(embeddings) == len(regions) and np.isfinite(embeddings).all()
    assert len(np.unique(embeddings, axis=0)) == len(regions)
    explained = len(regions) if DETECTORS[name].explains else 0
    assert evidence["sample_id"].nunique() == explained
    assert not explained or np.isfinite(evidence["distance"]).all()


@each_detector
def test_the_plan_names_the_runs_without_evidence(name: str, data: Path, tmp_path: Path) -> None:
    project = Project(parse(make_config(name, data) | {"report": {"evidence": True}}), tmp_path)
    runs = [run for run in project.detectors if DETECTORS[name].explains is None]
    said = [text for text in plan_warnings(project) if text.startswith("report.evidence")]
    assert len(said) == bool(runs) and all(run in said[0] for run in runs)
    assert not [text for text in plan_warnings(Project(parse(make_config(name, data)), tmp_path)) if "evidence" in text]


@pytest.mark.parametrize("name", TRAINED)
def test_training_writes_a_history_with_the_common_columns(name: str, finish: Finish) -> None:
    jobs = finish(name)
    history = pd.read_parquet(jobs.place(results.HISTORY, trained_run(jobs)))
    assert history.columns.tolist() == ["step", "epoch", "loss", "coherence", "lr", "images_per_second"]


@each_detector
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    name: str, finish: Finish, data: Path, tmp_path: Path
) -> None:
    before = everything(finish(name))
    assert everything(run_all(make_config(name, data), tmp_path)) == before
    for seed in has(name, *SEEDS):
        others = everything(finish(name, **{seed: 1}))
        changed = [other != files for files, other in zip(before, others, strict=True)]
        assert any(changed), f"{name}.{seed} changes nothing"


@pytest.mark.parametrize("name", with_shards())
def test_shards_change_no_byte(name: str, finish: Finish, data: Path, tmp_path: Path) -> None:
    config = make_config(name, data)
    config["infer"] |= {"shards": 2}
    assert everything(run_all(config, tmp_path)) == everything(finish(name))


def computed_rows(jobs: ScriptJobs) -> dict[str, str]:
    """By stage, what its log says of the rows that it has computed: "NEW of ALL"."""
    logs = {path.stem: path.read_text() for path in (jobs.project.results / "logs").iterdir()}
    texts = {stage: re.findall(r"(\d+ of \d+) rows are new or changed", text) for stage, text in logs.items()}
    return {stage: text[-1] for stage, text in texts.items() if text}


# Five shards share three batches.
@pytest.mark.parametrize("shards", [1, 5])
@each_detector
def test_new_images_among_old_ones_change_no_byte(name: str, shards: int, data: Path, tmp_path: Path) -> None:
    """Images are added, changed and removed: what is as before is taken over, and all is as in a full run."""
    for part in ("images/nut/train", f"images/nut/{SPLIT}"):
        shutil.copytree(data / part, tmp_path / part)
    for clip in data.glob("*.json"):
        shutil.copy(clip, tmp_path)
    # A single run: a second one would take over what the first has embedded.
    config = make_config(name, tmp_path, **dict.fromkeys(has(name, "shots"), 2))
    config["dataset"]["splits"] = [SPLIT]
    config["infer"] |= {"shards": shards}
    before = run_all(config, tmp_path / "results")
    assert computed_rows(before) == {}, "nothing to take over"

    folder = tmp_path / "images" / "nut" / SPLIT / "good"
    (folder / "001.png").unlink()
    first, changed = cv2.imread(str(folder / "000.png")), folder / "003.png"
    cv2.imwrite(str(changed), 255 - cv2.imread(str(changed)))
    cv2.imwrite(str(folder / "000_new.png"), first[::-1])
    # Snakemake removes what a job will write.
    for kind in ("samples", "tiles", "tile_maps", "tile_features"):
        for path in before.project.results.rglob(f"{kind}/nut/{SPLIT}.*"):
            path.unlink()
    after = run_all(config, tmp_path / "results")
    assert everything(after) == everything(run_all(config, tmp_path / "full"))

    rows = computed_rows(after)
    assert rows.pop("crop") == "4 of 10", "two new images of two tiles"
    if DETECTORS[name].compares_tiles:
        assert rows == {}, "every map depends on every tile"
    elif shards > 1 and name in with_shards():
        # The log of the last shard, whose tiles are those of 004.
        assert rows == {"infer_shard": "0 of 2"}
    else:
        assert set(rows.values()) == {"4 of 10"}


@each_detector
def test_what_ignored_pixels_show_changes_no_byte(name: str, data: Path, tmp_path: Path) -> None:
    """Neither of the model nor of a map."""
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 96), np.uint8)
    mask[10:50, 40:75] = 255
    written = []
    for look in ("first", "second"):
        for part in ("nut/train", f"nut/{SPLIT}"):
            for image in sorted((data / "images" / part).rglob("*.png")):
                pixels = cv2.imread(str(image))
                pixels[mask > 0] = rng.integers(0, 256, (np.count_nonzero(mask), 3))
                path = tmp_path / look / image.relative_to(data / "images")
                write_image(path)
                cv2.imwrite(str(path), pixels)
        config = make_config(name, data, **dict.fromkeys(has(name, "shots"), 2))
        cv2.imwrite(str(tmp_path / "nut.png"), mask)
        config["dataset"] |= {"root": str(tmp_path / look), "splits": [SPLIT]}
        config["dataset"] |= {"ignore": str(tmp_path / "{category}.png")}
        written.append(everything(run_all(config, tmp_path / f"results_{look}")))
    assert written[0] == written[1]


@pytest.mark.parametrize("name", WITH_BANK)
def test_regions_that_count_as_normal_are_normal(name: str, finish: Finish, data: Path, tmp_path: Path) -> None:
    """Of one image all pixels, of another 16 x 32 pixels: two tokens of each of its two tiles."""
    marked = {"001": np.full((64, 96), 255, np.uint8), "002": np.zeros((64, 96), np.uint8)}
    marked["002"][16:32, 32:64] = 255
    for number, mask in marked.items():
        cv2.imwrite(str(tmp_path / f"{number}.png"), mask)
    lines = [f"nut,nut/{SPLIT}/good/{number}.png,{number}.png" for number in marked]
    (tmp_path / "allowed.csv").write_text("\n".join(["category,image,mask", *lines]))
    before = finish(name, smoothing_sigma=0)
    after = run_all(make_config(name, data, smoothing_sigma=0, allow=str(tmp_path / "allowed.csv")), tmp_path)
    for run in after.project.detectors:
        banks = [read_banks(jobs.place(results.MODEL, run)) for jobs in (before, after)]
        for tokens, more in zip(*(bank.values() for bank in banks), strict=True):
            assert torch.equal(more[: len(tokens)], tokens) and len(more) == len(tokens) + 2 * 16 + 4
        maps = [np.load(jobs.place(results.TILE_MAPS, run, SPLIT)).astype(np.float32) for jobs in (before, after)]
        highest = maps[0].max()
        assert maps[1][2:4].max() < 0.01 * highest < maps[0][2:4].max()
        # Tiles of 32 x 32 map pixels, which begin at 0 and 32 image pixels.
        region = [maps[1][4, 8:16, 16:32].mean(), maps[1][5, 8:16, 0:16].mean()]
        assert max(region) < 0.5 * min(maps[0][4, 8:16, 16:32].mean(), maps[0][5, 8:16, 0:16].mean())
        assert (maps[1] <= maps[0] + 1e-3 * highest).all(), "a larger bank is never farther away"


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_little_memory_changes_no_byte(name: str, finish: Finish) -> None:
    assert everything(finish(name, memory_gb=1e-6)) == everything(finish(name))


class Stopped(BaseException):
    """SIGTERM has ended a job that does not handle it."""


@contextmanager
def sigterm_at_the_first_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SIGTERM comes when the first file of a folder is about to get its final name."""
    replace, sent = os.replace, []

    def stop(number: int, frame: object) -> None:
        raise Stopped

    def replace_and_stop(source: Any, target: Any, **options: Any) -> None:
        if Path(target).parent == folder and not sent:
            sent.append(target)
            signal.raise_signal(signal.SIGTERM)
        replace(source, target, **options)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replace_and_stop)
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", TRAINED)
def test_what_a_stopped_training_leaves_changes_no_byte(
    name: str, finish: Finish, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped training goes on or begins again; leftovers of it, or of one with another seed, are no harm later."""
    jobs = ScriptJobs(make_config(name, data), tmp_path / "stopped")
    run = trained_run(jobs)
    expected = finish(name).place(results.MODEL, run).read_bytes()
    model = jobs.place(results.MODEL, run)
    jobs.tiles(run, "train")
    with sigterm_at_the_first_file(model.parent, monkeypatch), pytest.raises((Stopped, SystemExit)):
        jobs.train(run)
    assert not model.exists()
    shutil.copytree(model.parent, tmp_path / "leftovers")
    jobs.train(run)
    assert model.read_bytes() == expected

    model.unlink()
    shutil.copytree(tmp_path / "leftovers", model.parent, dirs_exist_ok=True)
    jobs.train(run)
    assert model.read_bytes() == expected, "with the leftovers of a finished training"

    for seed in has(name, *SEEDS)[:1]:
        finished = finish(name, **{seed: 1})
        other = ScriptJobs(make_config(name, data, **{seed: 1}), tmp_path / "stopped")
        other_run = trained_run(other)
        other_model = other.place(results.MODEL, other_run)
        other_model.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(tmp_path / "leftovers", other_model.parent, dirs_exist_ok=True)
        other.train(other_run)
        expected = finished.place(results.MODEL, other_run).read_bytes()
        assert other_model.read_bytes() == expected, "with the leftovers of another seed"


@contextmanager
def refused(kind: type[RobisError]) -> Iterator[pytest.ExceptionInfo[SystemExit]]:
    """The block's job ends with exit status 1 because of an error of this kind."""
    with pytest.raises(SystemExit) as stopped:
        yield stopped
    assert stopped.value.code == 1
    assert isinstance(stopped.value.__context__, kind)


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_a_model_of_another_encoder_is_refused(name: str, finish: Finish, data: Path, tmp_path: Path) -> None:
    """Also where all of its tensors have the right shapes."""
    config = make_config(name, data)
    other_config = of_other_encoder(config, data)
    other = ScriptJobs(other_config, tmp_path)
    run = trained_run(other)
    other.train(run)
    model = other.place(results.MODEL, run)
    with refused(WeightsError) as stopped:
        finish(name).infer(run, SPLIT, model=[str(model)])
    message = str(stopped.value.__context__)
    for part in (str(model), config["encoder"]["name"], other_config["encoder"]["name"]):
        assert part in message


DAMAGE: dict[str, Callable[[bytes], bytes | None]] = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "cut short": lambda content: content[: len(content) // 2],
    "no model": lambda content: b"no model " * 100,
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_damaged_model_is_refused(name: str, finish: Finish, tmp_path: Path) -> None:
    jobs = finish(name)
    run = trained_run(jobs)
    content = jobs.place(results.MODEL, run).read_bytes()
    model = tmp_path / "model.safetensors"
    for damage in DAMAGE.values():
        model.unlink(missing_ok=True)
        damaged = damage(content)
        if damaged is not None:
            model.write_bytes(damaged)
        with refused(WeightsError) as stopped:
            jobs.infer(run, SPLIT, model=[str(model)])
        assert str(model) in str(stopped.value.__context__)


@each_detector
def test_every_option_is_declared_and_read(name: str, finish: Finish) -> None:
    jobs = finish(name)
    stages = DETECTORS[name].stages
    declared = {option.key for stage in stages.values() for option in stage.reads}
    assert {f"{name}.{option}" for option in DETECTORS[name].option_model.model_fields} <= declared
    for stage, declaration in stages.items():
        settings = effective(jobs.project.settings, detector=jobs.project.detectors[-1])
        taken = {option.name for option in declaration.reads if option.passed and option.is_read(settings)}
        assert taken <= jobs.read[stage], f"{stage} takes options that its code never reads"


@each_detector
def test_published_values_and_run_keys_are_options(name: str) -> None:
    detector, keys = DETECTORS[name], every_key(Settings)
    for key, value in detector.published.items():
        section, _, option = key.partition(".")
        assert key in keys
        assert parse({section: {option: value}}).get(key) == value
    assert set(detector.run_keys) <= {key for key in keys if key.startswith(f"{name}.")}


@each_detector
def test_absurd_options_are_refused_as_such(name: str, data: Path) -> None:
    """Each value is either valid, and the plan finds nothing wrong, or a user's mistake with the key in its message."""
    with pytest.raises(ConfigError, match=f"{name}.no_such_option"):
        parse({name: {"no_such_option": 1}})
    for option in DETECTORS[name].option_model.model_fields:
        refusals = 0
        for value in ABSURD:
            config = make_config(name, data)
            config[name][option] = value
            if message := mistake_in(config):
                assert f"{name}.{option}" in message
                refusals += 1
        assert refusals > len(ABSURD) // 2


def mistake_in(config: dict[str, Any]) -> str:
    """The message about a user's mistake that a plan gives; empty where there is none."""
    try:
        check_plan(Project(parse(config)))
    except (ConfigError, DataError, WeightsError) as error:
        return str(error)
    return ""


def live_bytes() -> int:
    """Bytes of the tensors that live on since `gc.freeze`, memory maps left out, and of what NumPy holds."""
    objects = gc.get_objects()
    maps = [(array.ctypes.data, array.nbytes) for array in objects if isinstance(array, np.memmap)]
    storages = {
        (storage.data_ptr(), storage.nbytes())
        for tensor in objects
        if isinstance(tensor, torch.Tensor)
        for storage in [tensor.untyped_storage()]
    }
    in_memory = [size for place, size in storages if not any(start <= place < start + n for start, n in maps)]
    return sum(in_memory) + tracemalloc.get_traced_memory()[0]


def peak_of(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> int:
    """Highest `live_bytes` at the moments when a job lets go of a piece of a mapped file, as it does at each batch."""
    release, samples = arrays.release, [0]

    def release_and_measure(array: object) -> None:
        release(array)
        samples.append(live_bytes())

    gc.collect()
    gc.freeze()
    tracemalloc.start()
    try:
        with monkeypatch.context() as patch:
            for module in list(sys.modules.values()):
                if module.__name__.startswith("robis.") and getattr(module, "release", None) is release:
                    patch.setattr(module, "release", release_and_measure)
            work()
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert len(samples) > 3, "no mapped file was released"
    return max(samples)


@each_detector
def test_memory_does_not_grow_with_the_tiles(
    name: str, finish: Finish, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many tiles take no more memory, beyond a fraction of their maps."""
    jobs = finish(name, **dict.fromkeys(has(name, "memory_gb"), 1e-6))
    for run in jobs.project.detectors:
        work: dict[str, Callable[[str], None]] = {"infer": lambda split, run=run: jobs.infer(run, split)}
        for stage, declaration in DETECTORS[name].stages.items():
            if stage in jobs.own_stages(run) and "split" in declaration.per:
                work = {stage: lambda split, run=run, stage=stage: jobs.do(stage, run, split)} | work
        tiles = {split: len(pd.read_parquet(jobs.tiles(run, split)["table"][0])) for split in (FEW, MANY)}
        for stage, of_split in work.items():
            few, many = (peak_of(lambda s=split, f=of_split: f(s), monkeypatch) for split in (FEW, MANY))
            maps = 4 * round(TILE * SCALE) ** 2 * (tiles[MANY] - tiles[FEW])
            assert many - few < maps / 2, f"{stage} of {run}: {few} bytes, then {many}"
