"""Jobs on machines that do not see the data set: what they read in its place, and what they know of it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from robis.detectors.settings import parse
from robis.errors import DataError
from robis.workflow.archives import (
    archive_params,
    archives_of,
    copied,
    copy_file,
    copy_params,
    embeddings_of,
    job_params,
)
from robis.workflow.plan_file import plan_file, read_plan, write_plan
from robis.workflow.process import prepare_plan
from robis.workflow.project import Project

JOB = {"detector": "superadd", "category": "nut", "split": "test_public"}


def write_image(path: Path, value: int, size: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size), value, np.uint8)).save(path)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Project]:
    """Makes the project of a config of two categories; all paths are relative to the current folder."""
    monkeypatch.chdir(tmp_path)
    for category, split in itertools.product(("nut", "bolt"), ("train/good", "validation/good", "test_public/good")):
        for number in range(2):
            write_image(Path("data", category, split, f"{number}.png"), number)
    write_image(Path("data/nut/test_public/bad/2.png"), 9)
    write_image(Path("data/nut/test_public/ground_truth/bad/2_mask.png"), 255)
    Path("weights").mkdir()
    Path("weights/vit.safetensors").write_bytes(b"weights")
    Path("weights/sam_vit_b_01ec64.pth").write_bytes(b"sam")

    def make(*, archive: bool = True, **sections: Any) -> Project:
        dataset = {"root": "data", "splits": ["test_public"], "archive": archive}
        values = {
            "dataset": dataset,
            "detectors": ["superadd", "musc"],
            "encoder": {"name": "vit_tiny_patch16_224", "weights": "weights/vit.safetensors", "input_size": 32},
            "binarize": {"calibrate": "validation"},
            "merge": {"normalize": "validation"},
            "refine": {"method": "sam", "model": "vit_b"},
        }
        return Project(parse(values | sections))

    return make


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


VIT = f"results/demo/inputs/files/{digest(b'weights')}/vit.safetensors"
SAM = f"results/demo/inputs/files/{digest(b'sam')}/sam_vit_b_01ec64.pth"
IMAGES = "results/demo/inputs/images/nut/{}.tar"
MASKS = "results/demo/inputs/masks/nut/{}.tar"
OF_BOLT = "results/demo/inputs/images/bolt/test_public.tar"
READ = {
    "crop": [IMAGES.format("test_public")],
    "train": [VIT],
    "infer": [VIT],
    "merge": [],
    "refine": [IMAGES.format("test_public"), SAM],
    "evaluate": [MASKS.format("test_public")],
    "pack": [IMAGES.format("test_public"), VIT, SAM],
    "measure_detectability": [IMAGES.format("validation"), VIT, SAM],
    "report": [OF_BOLT, IMAGES.format("test_public"), MASKS.format("test_public")],
    "audit_images": [*map(IMAGES.format, ("train", "validation", "test_public")), VIT],
}


@pytest.mark.parametrize("stage", READ)
def test_a_job_reads_archives_of_what_it_opens(project: Callable[..., Project], stage: str) -> None:
    """Images and masks of its splits, and weights; SAM's also where the config leaves its path out."""
    job = {} if stage == "report" else JOB
    assert archives_of(project(), stage, job) == READ[stage]
    sources = {VIT: "weights/vit.safetensors", SAM: "weights/sam_vit_b_01ec64.pth"}
    assert job_params(project(), stage, job).get("archived", []) == [sources.get(path, "") for path in READ[stage]]


@pytest.mark.parametrize("stage", READ)
def test_without_archives_nothing_is_different(project: Callable[..., Project], stage: str) -> None:
    job = {} if stage == "report" else JOB
    plain = project(archive=False)
    assert archives_of(plain, stage, job) == []
    assert job_params(plain, stage, job) is plain.params(stage, **job)
    assert repr(job_params(project(), stage, job)) == repr(plain.params(stage, **job))


def test_a_report_that_shows_training_images_reads_them(project: Callable[..., Project]) -> None:
    splits = [IMAGES.format(split) for split in ("train", "validation")]
    for shown in ("evidence", "audit"):
        paths = archives_of(project(report={shown: True}), "report", {})
        assert [path for path in paths if path in splits] == splits


def test_embeddings_of_a_file_are_read_from_its_copy(project: Callable[..., Project]) -> None:
    Path("nut_test_public.npy").write_bytes(b"embeddings")
    Path("bolt_test_public.npy").write_bytes(b"of bolt")
    given = {"method": "rscin", "embeddings": "{category}_{split}.npy", "neighborhood_sizes": [1]}
    copy = f"results/demo/inputs/files/{digest(b'embeddings')}/nut_test_public.npy"
    planned = project(rescore=given)
    assert embeddings_of(planned, JOB) == [copy]
    assert embeddings_of(project(rescore=given, archive=False), JOB) == ["nut_test_public.npy"]
    write_plan(planned)
    Path("nut_test_public.npy").unlink()
    other = project(rescore=given)
    other.plan = read_plan(planned)
    assert embeddings_of(other, JOB) == [copy]


def test_masks_that_are_not_refined_need_no_image(project: Callable[..., Project]) -> None:
    assert archives_of(project(refine={"method": "none"}), "refine", JOB) == []


def test_an_archive_holds_the_images_or_the_masks_of_a_split(project: Callable[..., Project]) -> None:
    names = {kind: archive_params(project(), kind, "nut", "test_public")["names"] for kind in ("images", "masks")}
    assert names == {
        "images": ["nut/test_public/bad/2.png", *(f"nut/test_public/good/{number}.png" for number in range(2))],
        "masks": ["nut/test_public/ground_truth/bad/2_mask.png"],
    }


def test_an_archive_is_stale_when_a_file_of_its_split_changes(project: Callable[..., Project]) -> None:
    def identity(split: str) -> str:
        return repr(archive_params(project(), "images", "nut", split))

    before = {split: identity(split) for split in ("train", "test_public")}
    write_image(Path("data/nut/test_public/good/0.png"), 77)
    assert identity("test_public") != before["test_public"]
    assert identity("train") == before["train"]


def test_a_file_is_copied_under_the_digest_of_its_content(project: Callable[..., Project]) -> None:
    planned = project()
    entry = copied(planned, "weights/vit.safetensors")
    assert entry.path == VIT
    params = copy_params(planned, digest(b"weights"))
    assert params.options() == {"source": "weights/vit.safetensors", "digest": digest(b"weights")}
    copy_file(Path(VIT), **params.options())
    assert Path(VIT).read_bytes() == b"weights"

    Path("weights/vit.safetensors").write_bytes(b"others")
    with pytest.raises(DataError, match=r"vit\.safetensors: the file changed while robis ran"):
        copy_file(Path(VIT), **params.options())


def test_without_the_data_set_a_job_knows_the_same_from_the_plan(project: Callable[..., Project]) -> None:
    planned = project()
    jobs = {stage: {} if stage == "report" else JOB for stage in READ}
    jobs["train"] = jobs["pack"] = jobs["measure_detectability"] = JOB | {"split": None}
    jobs["audit_images"] = {"category": "nut"}
    params = {stage: job_params(planned, stage, job) for stage, job in jobs.items()}
    places = list(itertools.product(("nut", "bolt"), ("train", "validation", "test_public")))
    samples = {place: planned.samples(*place) for place in places}
    write_plan(planned)
    plan = read_plan(planned)
    for folder in ("data", "weights"):
        Path(folder).rename(f"moved {folder}")

    other = project()
    other.plan = plan
    assert other.categories == ["bolt", "nut"]
    assert {place: other.samples(*place) for place in places} == samples
    for stage, job in jobs.items():
        known = job_params(other, stage, job)
        assert (dict(known), repr(known)) == (dict(params[stage]), repr(params[stage]))
        assert known.options() == params[stage].options()
        assert archives_of(other, stage, job) == archives_of(planned, stage, job)


def workflow(*, remote: bool) -> Any:
    """What Snakemake's own object has of what a plan looks at; `sent` are the files that other machines get."""
    local: list[str] = []
    sent: set[str] = set()
    dag = SimpleNamespace(get_sources=lambda: {"Snakefile"})
    return SimpleNamespace(
        dag=dag,
        write_source_archive=lambda path: sent.update(dag.get_sources()),
        sent=sent,
        remote_exec=remote,
        is_main_process=not remote,
        localrules=lambda *rules: local.extend(rules),
        local=local,
        storage_settings=SimpleNamespace(default_storage_provider=None),
        group_settings=SimpleNamespace(overwrite_groups={"index": "prepare", "crop": "prepare"}),
    )


def test_what_reads_the_data_set_runs_where_it_is(
    project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a group, which is submitted; and the plan goes where the workflow's files go."""
    monkeypatch.setattr("robis.workflow.process.plan_warnings", lambda project: ["a warning"])
    main, planned = workflow(remote=False), project()
    assert prepare_plan(planned, main) == ["a warning"]
    assert main.local == ["index", "archive", "copy_file"]
    assert main.group_settings.overwrite_groups == {"crop": "prepare"}
    main.write_source_archive(Path("sources.tar.xz"))
    assert main.sent == {"Snakefile", str(plan_file(planned))}
    assert plan_file(planned) == plan_file(project()) != plan_file(project(refine={"method": "none"}))
    assert prepare_plan(project(), workflow(remote=True)) == []

    plain = workflow(remote=False)
    assert prepare_plan(project(archive=False), plain) == ["a warning"]
    assert plain.local == []


def test_a_folder_that_another_machine_has_stored_is_found(
    project: Callable[..., Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class is like that of the storage plugin for S3, whose objects remember what is no folder."""

    class Stored:
        folders: ClassVar[set[str]] = set()

        def __init__(self) -> None:
            self._is_dir: bool | None = None

        def exists(self) -> bool:
            if self._is_dir is None:
                self._is_dir = "maps" in self.folders
            return self._is_dir

    monkeypatch.setattr("robis.workflow.process.plan_warnings", lambda project: [])
    main = workflow(remote=False)
    main.storage_settings.default_storage_provider = "s3"
    provider = SimpleNamespace(get_storage_object_cls=lambda: Stored)
    main.storage_registry = SimpleNamespace(default_storage_provider=provider)
    prepare_plan(project(), main)
    maps = Stored()
    assert not maps.exists()
    Stored.folders.add("maps")
    assert maps.exists()
