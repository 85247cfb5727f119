"""Run the tiny data set with its results in an S3 server on this machine, and compare every byte with a plain run.

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

from tests.workflow.conftest import Workspace, write_tiny_dataset

BUCKET, PREFIX = "robis", "runs/"
KEYS = {"access-key": "key", "secret-key": "secret"}
TARGETS = ("all", "metrics")


def workspace(folder: Path) -> Workspace:
    write_tiny_dataset(folder / "data")
    created = Workspace(folder)
    created.write_config({"dataset": {"root": "data", "splits": ["test_public"]}})
    return created


def write_profile(folder: Path, url: str) -> Path:
    """A profile of what tells Snakemake to keep results in the bucket alone."""
    provider = {"endpoint-url": url, "region": "us-east-1", **KEYS}
    profile = {
        "default-storage-provider": "s3",
        "default-storage-prefix": f"s3://{BUCKET}/{PREFIX}",
        "shared-fs-usage": "none",
        **{f"storage-s3-{key}": value for key, value in provider.items()},
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(profile))
    return folder


def stored_files(client: Any) -> dict[str, bytes]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}results/tiny/")
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
    stored = stored_files(client)
    expected = plain.outputs()
    names = {name: f"{PREFIX}results/tiny/{name}" for name in expected}
    different = sorted(name for name in expected if stored.get(names[name]) != expected[name])
    shutil.rmtree(remote.folder / ".snakemake" / "storage", ignore_errors=True)
    done = "Nothing to be done" in remote.snakemake(profile, *TARGETS)
    local = sorted(path.name for path in remote.results.iterdir())
    print(f"{len(stored)} files in the bucket; {len(expected)} results compared, {len(different)} differ: {different}")
    print(f"Only fingerprints are local: {local == ['fingerprints']}; nothing to be done afterwards: {done}")
    sys.exit(bool(different) or not done or local != ["fingerprints"])


if __name__ == "__main__":
    main()
