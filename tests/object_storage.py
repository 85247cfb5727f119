"""Run the tiny data set with its results in an S3 server on this machine, and compare every byte with a plain run.

Once with local jobs that read the images, once with jobs in empty folders that see nothing but the bucket.

Not part of `make test`: it takes minutes, and boto3 requires an older python-dateutil than constraints.txt has.

    python3 -m venv .venv-s3
    .venv-s3/bin/pip install -e '.[dev]' snakemake-storage-plugin-s3 'moto[server]'
    .venv-s3/bin/python -m tests.object_storage
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
import yaml
from moto.server import ThreadedMotoServer

from tests.workflow.conftest import Workspace, copy_code, snakemake_elsewhere, write_tiny_dataset

BUCKET, PREFIX, ELSEWHERE = "robis", "runs/", "elsewhere/"
KEYS = {"access-key": "key", "secret-key": "secret"}
TARGETS = ("all", "metrics")


def workspace(folder: Path, *, archive: bool = False) -> Workspace:
    write_tiny_dataset(folder / "data")
    created = Workspace(folder)
    created.write_config({"dataset": {"root": "data", "splits": ["test_public"], "archive": archive}})
    return created


def options(url: str, prefix: str) -> dict[str, str]:
    """Options that tell Snakemake to keep results in the bucket."""
    provider = {"endpoint-url": url, "region": "us-east-1", **KEYS}
    return {
        "default-storage-provider": "s3",
        "default-storage-prefix": f"s3://{BUCKET}/{prefix}",
        **{f"storage-s3-{key}": value for key, value in provider.items()},
    }


def write_profile(folder: Path, url: str) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(options(url, PREFIX) | {"shared-fs-usage": "none"}))
    return folder


def stored_files(client: Any, prefix: str) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}results/tiny/")
    names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return {name: client.get_object(Bucket=BUCKET, Key=name)["Body"].read() for name in names}


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line per request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), "http://{}:{}".format(*server.get_host_and_port()))
    finally:
        server.stop()


def compare(folder: Path, url: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=KEYS["access-key"],
        aws_secret_access_key=KEYS["secret-key"],
    )
    client.create_bucket(Bucket=BUCKET)
    plain, remote = workspace(folder / "plain"), workspace(folder / "remote")
    profile = f"--profile={write_profile(folder / 'profile', url)}"
    plain.snakemake(*TARGETS)
    remote.snakemake(profile, *TARGETS)
    expected = plain.outputs()
    different = differences(expected, client, PREFIX)
    shutil.rmtree(remote.folder / ".snakemake" / "storage", ignore_errors=True)
    done = "Nothing to be done" in remote.snakemake(profile, *TARGETS)
    local = sorted(path.name for path in remote.results.iterdir())
    print(f"{len(expected)} results compared, {len(different)} differ: {different}")
    print(f"Only fingerprints are local: {local == ['fingerprints']}; nothing to be done afterwards: {done}")

    elsewhere = workspace(copy_code(folder / "elsewhere"), archive=True)
    given = [f"--{key}={value}" for key, value in options(url, ELSEWHERE).items()]
    snakemake_elsewhere(elsewhere, folder, *TARGETS, options=given)
    unlike = differences(expected, client, ELSEWHERE)
    print(f"By jobs in empty folders: {len(unlike)} differ: {unlike}")
    sys.exit(bool(different or unlike) or not done or local != ["fingerprints"])


def differences(expected: dict[str, bytes], client: Any, prefix: str) -> list[str]:
    """Results that are not in the bucket as a plain run has them."""
    stored = stored_files(client, prefix)
    return sorted(name for name, content in expected.items() if stored.get(f"{prefix}results/tiny/{name}") != content)


if __name__ == "__main__":
    main()
