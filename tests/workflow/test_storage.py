"""Results in a storage of Snakemake's: a job gets the inputs that its rule declares, and nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import Workspace, copy_code, snakemake_elsewhere, write_tiny_dataset

pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(not shutil.which("rsync"), reason="Snakemake's storage plugin fs needs rsync"),
]

TARGETS = ("all", "metrics")


@pytest.fixture(scope="module")
def stored(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A complete run whose results are in the folder `storage`, compared with another run."""
    folder = tmp_path_factory.mktemp("stored")
    write_tiny_dataset(folder / "data")
    profile = {"default-storage-provider": "fs", "default-storage-prefix": str(folder / "storage")}
    (folder / "profile").mkdir()
    (folder / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    workspace = Workspace(folder)
    dataset = {"root": str(folder / "data"), "splits": ["test_public"]}
    workspace.write_config(
        {"dataset": dataset, "infer": {"shards": 2, "batch_size": 16}, "report": {"compare": [str(finished.results)]}}
    )
    run(workspace, *TARGETS)
    workspace.results = folder / "storage" / "results" / "tiny"
    return workspace


def run(workspace: Workspace, *arguments: str) -> str:
    """Run Snakemake without any local copy of a result."""
    shutil.rmtree(workspace.folder / ".snakemake" / "storage", ignore_errors=True)
    return workspace.snakemake(f"--profile={workspace.folder / 'profile'}", *arguments)


def test_stored_results_are_those_of_a_run_without_storage(stored: Workspace, finished: Workspace) -> None:
    expected = {name: content for name, content in finished.outputs().items() if "test_private" not in name}
    results = stored.outputs()
    assert results.keys() == expected.keys()
    assert [name for name in expected if results[name] != expected[name]] == []


def test_only_fingerprints_are_written_where_snakemake_runs(stored: Workspace) -> None:
    """They are Snakemake's own memory of the images, and can be made again."""
    local = {path.name for path in (stored.folder / "results" / "tiny").iterdir()}
    assert local == {"fingerprints"}


def test_nothing_is_to_be_done_without_local_copies(stored: Workspace) -> None:
    shutil.rmtree(stored.folder / "results")
    assert "Nothing to be done" in run(stored, *TARGETS)


def test_the_report_reads_declared_files_alone(stored: Workspace) -> None:
    report = stored.results / "report"
    before = content(report)
    shutil.rmtree(report)
    output = run(stored, "all")
    assert "(Rule: report)" in output and "(Rule: evaluate)" not in output
    assert content(report) == before


def test_jobs_on_other_machines_see_neither_images_nor_masks(finished: Workspace, tmp_path: Path) -> None:
    """Each job runs in an empty folder and gets what Snakemake sends: the paths of the config lead nowhere there."""
    code = copy_code(tmp_path / "code")
    write_tiny_dataset(code / "data")
    workspace = Workspace(code)
    workspace.code = code
    workspace.write_config({"dataset": {"archive": True}})
    storage = tmp_path / "storage"
    shutil.copytree(finished.results, storage / "results" / "tiny", symlinks=True)
    lost = ["tiles/nut/validation.npy", "inp_former/metrics/nut/test_public.parquet"]
    for name in lost:
        (storage / "results" / "tiny" / name).unlink()

    output = snakemake_elsewhere(workspace, storage, *(f"results/tiny/{name}" for name in lost))
    assert sorted(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", output)) == [
        "archive",
        "archive",
        "crop",
        "evaluate",
    ]
    for name in lost:
        assert (storage / "results" / "tiny" / name).read_bytes() == (finished.results / name).read_bytes()


def content(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".snakemake_timestamp"]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
