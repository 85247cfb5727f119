"""What a user gets wrong: one message that names it, an exit code that is not zero, nothing that looks finished."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.workflow


def damage_image(workspace: Workspace) -> None:
    (workspace.folder / "data/nut/test_public/good/000_regular.png").write_text("no image")
    (workspace.folder / "data/nut/test_public/good/001_regular.png").write_bytes(b"")


def resize_mask(workspace: Workspace) -> None:
    mask = workspace.folder / "data/nut/test_public/ground_truth/bad/000_regular_mask.png"
    Image.fromarray(np.full((5, 5), 255, np.uint8)).save(mask)


def remove_mask(workspace: Workspace) -> None:
    (workspace.folder / "data/nut/test_public/ground_truth/bad/002_regular_mask.png").unlink()


def remove_root(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder / "data")


def change(**sections: dict) -> Callable[[Workspace], None]:
    return lambda workspace: workspace.write_config(sections)


def unmatched_override(workspace: Workspace) -> None:
    workspace.write_config(overrides=[{"where": {"category": "nutt"}, "set": {"merge.scale": 1.0}}])


@pytest.mark.parametrize(
    ("spoil", "messages"),
    [
        (remove_root, ["dataset.root: data is not a folder"]),
        (
            change(dataset={"categories": ["nutt"]}),
            ["dataset.categories: 'nutt' is not in data", "Did you mean 'nut'?"],
        ),
        (change(dataset={"splits": ["test_publc"]}), ["dataset.splits", "Did you mean 'test_public'?"]),
        (change(tiling={"windw": 3}), ["tiling.windw: unknown key", "Did you mean 'window'?"]),
        (change(merge={"scale": 0}), ["merge.scale: found 0; expected a number above 0 and at most 1."]),
        (
            change(encoder={"weights": "weights/absent.safetensors"}),
            ["encoder.weights: weights/absent.safetensors does not exist. Put the file there"],
        ),
        (
            change(refine={"method": "sam", "model": "vit_b"}),
            ["weights/sam_vit_b_01ec64.pth: does not exist", "Download sam_vit_b_01ec64.pth from", "refine.checkpoint"],
        ),
        (unmatched_override, ["overrides.0.where.category: 'nutt' matches nothing here", "Did you mean 'nut'?"]),
    ],
)
def test_before_any_job_starts(workspace: Workspace, spoil, messages: list[str]) -> None:
    spoil(workspace)
    output = workspace.snakemake("all", ok=False)
    for message in messages:
        assert message in output
    assert "Traceback" not in output
    assert not workspace.results.exists(), "nothing has run"


def write(text: str | bytes) -> Callable[[Workspace], None]:
    return lambda workspace: workspace.configfile.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        # Snakemake itself takes the second of two equal keys, and reads `yes` as true and 010 as 8.
        (
            write("dataset: {root: data}\nmerge: {scale: 0.5}\nmerge: {blend: mean}\n"),
            "config.yaml, line 3: the key 'merge' is given twice, first in line 2. Remove one of them.",
        ),
        (write("inp_former: {epochs: yes}\n"), "inp_former.epochs: found 'yes'; expected an integer from 1 to 100000."),
        (write("inp_former: {epochs: 010}\n"), "inp_former.epochs: found '010'; expected an integer from 1 to 100000."),
        (write("dataset: {categories: [01], root: data}\n"), "dataset.categories: '01' is not in data."),
        # Snakemake fails at these before it reads the Snakefile.
        (
            write(b"# f\xfcr alle\nmerge: {scale: 0.5}\n"),
            "config.yaml, line 1: found the byte 0xfc, which is not UTF-8",
        ),
        (write("merge: {scale: 0.5}\n".encode("utf-16")), "found a file in UTF-16 or UTF-32; expected UTF-8."),
    ],
)
def test_config_files_are_read_as_robis_reads_them(workspace: Workspace, spoil, message: str) -> None:
    spoil(workspace)
    output = workspace.snakemake("--dry-run", "all", ok=False)
    assert message in output
    assert "Traceback" not in output


def test_the_default_config_gives_one_message_too(workspace: Workspace) -> None:
    folder = workspace.folder / "config"
    folder.mkdir()
    (folder / "config.yaml").write_bytes(b"# f\xfcr alle\nmerge: {scale: 0.5}\n")
    command = [
        part for part in workspace.command("--dry-run") if part not in ("--configfile", str(workspace.configfile))
    ]
    command.remove("--")
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=workspace.environment)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert "config/config.yaml, line 1: found the byte 0xfc, which is not UTF-8" in output
    assert "Traceback" not in output


def test_a_dotted_key_on_the_command_line_is_explained(workspace: Workspace) -> None:
    output = workspace.snakemake("--dry-run", "--config=merge.scale=0.5", ok=False)
    assert (
        "--config merge.scale=0.5: Snakemake takes no dots in keys. Expected --config 'merge={scale: 0.5}'." in output
    )
    assert "Traceback" not in output


def test_the_message_of_a_failed_job_comes_last(workspace: Workspace) -> None:
    damage_image(workspace)
    output = workspace.snakemake("results/tiny/samples/nut/test_public.parquet", ok=False)
    *_, first = output.partition("robis: A job has failed. Finished results are kept.\n\n")
    assert first.startswith("index nut/test_public: nut/test_public: 2 of 5 samples cannot be used:\n")
    assert output.endswith("\nLog: results/tiny/logs/index/nut/test_public.log\n")
    for noise in ("CalledProcessError", "Shutting down", "Exiting because", "At least one job"):
        assert noise not in output


def test_values_of_the_command_line_get_the_type_of_their_option(workspace: Workspace) -> None:
    wrong = workspace.snakemake("--dry-run", "--config=merge={scale: .nan}", ok=False)
    assert "merge.scale: found .nan; expected a number above 0 and at most 1." in wrong
    nulls = workspace.snakemake("--dry-run", "--config=refine={sha256: null, method: none}", "masks")
    assert "refine" in nulls


@pytest.mark.parametrize(
    ("spoil", "targets", "messages"),
    [
        (
            damage_image,
            ["samples/nut/test_public.parquet"],
            [
                "nut/test_public: 2 of 5 samples cannot be used",
                "000_regular.png: not a readable image (unknown format)",
                "001_regular.png: not a readable image (empty file)",
            ],
        ),
        (
            resize_mask,
            ["samples/nut/test_public.parquet"],
            ["000_regular_mask.png: 5 x 5 pixels; the image has 128 x 96"],
        ),
        (
            remove_mask,
            ["samples/nut/test_public.parquet"],
            ["1 defective image has no mask. Add the masks", "test_public/bad/002_regular.png"],
        ),
        (
            change(encoder={"weights": "auto"}),
            ["inp_former/models/nut/model.safetensors"],
            ["the weights of vit_tiny_patch16_224 could not be downloaded", "set encoder.weights to its path"],
        ),
        (
            change(encoder={"blocks": [2, 40]}),
            ["inp_former/models/nut/model.safetensors"],
            ["encoder.blocks: found [2, 40]; expected ascending numbers from 0 to 11"],
        ),
        (
            change(inp_former={"learning_rate": 1000.0, "weight_decay": 1000.0, "warmup_steps": 0}),
            ["inp_former/models/nut/model.safetensors"],
            ["train: the loss or its gradient is", "Lower inp_former.learning_rate"],
        ),
    ],
)
def test_in_the_job_that_notices(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil, targets: list[str], messages
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no_cache"))
    spoil(workspace)
    output = workspace.snakemake(*(f"results/tiny/{target}" for target in targets), ok=False)
    for message in messages:
        assert message in output
    assert "Traceback" not in output
    for target in targets:
        assert not (workspace.results / target).exists()


def test_a_submission_without_private_splits_says_so(workspace: Workspace) -> None:
    workspace.write_config({"dataset": {"splits": ["test_public"]}})
    output = workspace.snakemake("submission", ok=False)
    assert "dataset.splits has no private split. Add test_private" in output
