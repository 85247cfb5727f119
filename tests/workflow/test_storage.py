"""Results in a storage of Snakemake's: a job gets the inputs that its rule declares, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import Workspace, write_tiny_dataset

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


def content(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".snakemake_timestamp"]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
