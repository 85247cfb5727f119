"""Files that appear whole: what reaches the disk when, kills between two steps, and disks that are full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import save_file

from robis.errors import DataError, DiskFullError
from robis.io import arrays
from robis.io.arrays import atomic_array, blocks, open_array, scratch_array
from robis.io.atomic import atomic_file, atomic_folder
from robis.io.disk import in_words, is_disk_full
from robis.io.maps import write_map, write_mask
from robis.io.samples import IndexedSample, write_samples
from robis.io.tables import write_table
from robis.tiles.files import TileStore
from robis.tiles.store import Cutting, crop_split
from robis.workflow.fingerprints import fingerprint


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is synchronized and renamed, in order: ("fsync", path) and ("replace", new path)."""
    taken: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        taken.append(("fsync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def recorded_replace(source: str | Path, target: str | Path) -> None:
        taken.append(("replace", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return taken


def readable(steps: list[tuple[str, str]], folder: Path) -> list[str]:
    """The steps with paths relative to a folder, and without the random part of unfinished names."""
    names = [(step, os.path.relpath(path, folder)) for step, path in steps]
    return [f"{step} {'unfinished' + name[17:] if name[10:17] == 'partial' else name}" for step, name in names]


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the names of open files from /proc")


@needs_proc
def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    (tmp_path / "there").mkdir()
    with atomic_file(tmp_path / "there" / "a.txt") as partial:
        partial.write_text("whole")
    assert readable(steps, tmp_path / "there") == ["fsync unfinished.a.txt", "replace a.txt", "fsync ."]


@needs_proc
def test_new_folders_are_on_the_disk_as_well(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    with atomic_file(tmp_path / "new" / "deep" / "a.txt") as partial:
        partial.write_text("whole")
    assert [name for _, name in steps[1:]] == [
        *(str(tmp_path / "new" / "deep" / "a.txt"), str(tmp_path / "new" / "deep")),
        *(str(tmp_path / "new"), str(tmp_path)),
    ]


@needs_proc
def test_every_file_of_a_folder_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, steps: list[tuple[str, str]]
) -> None:
    for content in ("old", "new"):
        steps.clear()
        with atomic_folder(tmp_path / "maps") as partial:
            for name in ("a.tiff", "bad/b.tiff"):
                (partial / name).parent.mkdir(exist_ok=True)
                (partial / name).write_text(content)
        assert sorted(readable(steps, tmp_path)[:4]) == [
            *("fsync unfinished.maps", "fsync unfinished.maps/a.tiff"),
            *("fsync unfinished.maps/bad", "fsync unfinished.maps/bad/b.tiff"),
        ]
    aside, *rest = readable(steps, tmp_path)[4:]
    assert aside.startswith("replace .") and aside.endswith(".replaced.maps")
    assert rest == ["replace maps", "fsync .", "fsync ."]
    assert (tmp_path / "maps" / "bad" / "b.tiff").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]


@needs_proc
def test_values_are_on_the_disk_before_the_header_and_the_name(
    tmp_path: Path, steps: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begins: list[bytes] = []
    flush = np.memmap.flush
    monkeypatch.setattr(np.memmap, "flush", lambda array: (flush(array), steps.append(("msync", array.filename)))[0])
    recorded = os.fsync

    def look(descriptor: int) -> None:
        recorded(descriptor)
        if (path := Path(f"/proc/self/fd/{descriptor}").readlink()).is_file():
            begins.append(path.read_bytes()[:6])

    monkeypatch.setattr(os, "fsync", look)
    with atomic_array(tmp_path / "a.npy", np.float16, (3, 4)) as array:
        array[:] = 7
    order = ["msync unfinished.a.npy", "fsync unfinished.a.npy", "fsync unfinished.a.npy", "replace a.npy", "fsync ."]
    assert readable(steps, tmp_path) == order
    assert begins == [bytes(6), b"\x93NUMPY"]


def test_an_array_is_the_file_that_numpy_writes(tmp_path: Path, rng: np.random.Generator) -> None:
    record = np.dtype([("image", np.float32, (3,)), ("patches", np.float16, (2, 5))])
    for values in (rng.random((3, 4, 5)), np.zeros((0, 4), np.uint8), np.zeros(7, record)):
        np.save(tmp_path / "expected.npy", values)
        with atomic_array(tmp_path / "a.npy", values.dtype, values.shape) as array:
            array[:] = values
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
        stored = open_array(tmp_path / "a.npy", stage="crop", dtypes=None, shape=values.shape)
        np.testing.assert_array_equal(stored, values)


def test_blocks_hold_the_array_in_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(14).reshape(7, 2))
    stored = open_array(tmp_path / "a.npy", stage="crop", dtypes=None, shape=(None, 2))
    assert [(first, part.tolist()) for first, part in blocks(stored, 3)] == [
        *((0, [[0, 1], [2, 3], [4, 5]]), (3, [[6, 7], [8, 9], [10, 11]])),
        (6, [[12, 13]]),
    ]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads the pages of this process from /proc")
def test_going_through_a_map_keeps_no_page_of_it(tmp_path: Path) -> None:
    with atomic_array(tmp_path / "a.npy", np.uint8, (64, 1 << 18)) as array:
        array[:] = 1
    del array
    stored = open_array(tmp_path / "a.npy", stage="crop", dtypes=None, shape=(None, None))
    assert sum(int(part.sum()) for _, part in blocks(stored, 4)) == 64 << 18
    maps = Path("/proc/self/smaps").read_text()
    resident = maps.partition(str(tmp_path / "a.npy"))[2].partition("Rss:")[2].split()[0]
    assert int(resident) == 0


CANNOT = OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("why", ["macOS has no posix_fallocate", "the file system cannot reserve"])
def test_room_is_taken_where_it_cannot_be_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def refuse(*_: int) -> None:
        raise CANNOT

    if why.startswith("macOS"):
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    values = np.arange(3 * arrays.ZEROS // 4, dtype=np.uint16)
    with atomic_array(tmp_path / "a.npy", values.dtype, values.shape) as array:
        (partial,) = tmp_path.iterdir()
        # Blocks of 512 bytes that the file really takes: zeros that are not written take none.
        assert partial.stat().st_blocks * 512 >= values.nbytes
        array[:] = values
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)


def test_a_full_disk_is_met_where_room_cannot_be_reserved(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    full = pytest.raises(DiskFullError, match=r"a\.npy: the disk is full\. It takes 3\.0 MB\.")
    with full, atomic_array(small_disk / "a.npy", np.uint8, (3_000_000,)):
        pytest.fail("nothing may be written to a map without room")
    assert list(small_disk.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from robis.io.atomic import atomic_folder
replace, calls = os.replace, []

def kill_at_the_second(source, target):
    calls.append(target)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = kill_at_the_second
with atomic_folder(sys.argv[1]) as partial:
    (partial / "new.png").touch()
"""


def test_a_folder_survives_a_kill_between_the_two_renames(tmp_path: Path) -> None:
    target = tmp_path / "masks"
    target.mkdir()
    (target / "old.png").touch()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert killed.returncode == -9 and not target.exists()

    def fail() -> None:
        with atomic_folder(target):
            assert [path.name for path in target.iterdir()] == ["old.png"], "back in its place"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    assert [path.name for path in target.iterdir()] == ["old.png"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "masks"
    target.mkdir()
    (target / "old.png").touch()
    replace = os.replace

    def broken(source: Path, destination: Path) -> None:
        if ".partial." in str(source):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="Input/output"), atomic_folder(target) as partial:
        (partial / "new.png").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]
    assert [path.name for path in target.iterdir()] == ["old.png"]


def test_a_folder_behind_a_link_is_replaced_and_what_it_links_to_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old.png").touch()
    (tmp_path / "masks").symlink_to("elsewhere")
    with atomic_folder(tmp_path / "masks") as partial:
        (partial / "new.png").touch()
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["new.png"]
    assert (tmp_path / "elsewhere" / "old.png").exists()


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_two_writers_of_one_target_get_a_message(tmp_path: Path, writer: Callable) -> None:
    def write_twice() -> None:
        with writer(tmp_path / "maps") as first:
            first.touch()
            with writer(tmp_path / "maps") as second:
                second.touch()

    with pytest.raises(DataError, match=r"maps: another process that writes the same target has removed"):
        write_twice()
    assert (tmp_path / "maps").exists()


NOISE = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8)


def in_file(write: Callable[[Path], object]) -> Callable[[Path], None]:
    def run(target: Path) -> None:
        with atomic_file(target) as partial:
            write(partial)

    return run


def in_folder(write: Callable[[Path, int], object]) -> Callable[[Path], None]:
    def run(target: Path) -> None:
        with atomic_folder(target) as partial:
            for number in range(40):
                write(partial, number)

    return run


def mapped(target: Path) -> None:
    with atomic_array(target, np.uint8, NOISE.shape) as array:
        array[:] = NOISE


def crop(target: Path) -> None:
    folder = target.parent.parent
    Image.fromarray(NOISE.reshape(1000, 1000, 3)).save(folder / "0.png")
    write_samples(folder / "s.parquet", [IndexedSample("0", "test", "0.png", None, None, None, 1000, 1000)])
    files = TileStore(target, target.with_suffix(".parquet"))
    crop_split(folder / "s.parquet", folder, files, Cutting("image", 0.1, "pad", 1000))


STATE = {str(number): torch.from_numpy(NOISE[:100_000].copy()) for number in range(30)}
WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": in_file(lambda partial: partial.write_bytes(NOISE.tobytes())),
    "parquet": lambda target: write_table(target, pd.DataFrame({"a": np.random.default_rng(0).random(400_000)})),
    "csv": in_file(lambda partial: pd.DataFrame({"a": NOISE}).to_csv(partial)),
    "numpy": in_file(lambda partial: NOISE.tofile(partial)),
    "torch": in_file(lambda partial: torch.save({"a": torch.from_numpy(NOISE)}, partial)),
    "torch, small tensors": in_file(lambda partial: torch.save(STATE, partial)),
    "safetensors": in_file(lambda partial: save_file(STATE, partial)),
    "tifffile": in_file(lambda partial: tifffile.imwrite(partial, NOISE.reshape(1000, 3000))),
    "png": in_file(lambda partial: Image.fromarray(NOISE.reshape(1000, 3000)).save(partial, "PNG")),
    "maps": in_folder(lambda folder, n: write_map(folder / f"{n}.tiff", NOISE[:90_000].reshape(300, 300))),
    "masks": in_folder(lambda folder, n: write_mask(folder / f"{n}.png", NOISE[:900_000].reshape(900, -1) > 99)),
    "many files": in_folder(lambda folder, n: [(folder / f"{n}_{m}.txt").touch() for m in range(100)]),
    "an array": mapped,
    "scratch": lambda target: scratch_array(target, np.uint8, NOISE.shape).fill(1),
    "crop": crop,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_whatever_writes(name: str, small_disk: Path) -> None:
    target = small_disk / "target"
    with pytest.raises(DiskFullError) as full:
        WRITERS[name](target)
    message = str(full.value)
    assert message.startswith(f"{target}: the disk is full. It takes ")
    assert "more than" in message or "3.0 MB" in message
    room = "can hold no more files" if name == "many files" else f"Free in {small_disk}: "
    assert room in message
    assert list(small_disk.iterdir()) == [], "and what was written takes no room"


def test_planning_goes_on_without_room_to_remember_digests(
    small_disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The digests of 10,000 images take more than a megabyte; Snakemake would show an error with its traceback."""
    images = tmp_path / "images"
    images.mkdir()
    names = [f"{number:0100}.png" for number in range(10_000)]
    for name in names:
        (images / name).touch()
    digest = fingerprint(images, names, small_disk / "train.json")
    assert f"{small_disk / 'train.json'}: the disk is full. It takes more than 1.0 MB. Free in" in caplog.text
    assert list(small_disk.iterdir()) == []
    assert digest == fingerprint(images, names, tmp_path / "train.json")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_counts_as_a_full_disk(tmp_path: Path, number: int) -> None:
    def write() -> None:
        with atomic_file(tmp_path / "a.txt") as partial:
            partial.write_text("abc")
            raise RuntimeError("some library") from OSError(number, os.strerror(number))

    with pytest.raises(DiskFullError, match=r"a\.txt: the disk is full\. It takes more than 3 bytes"):
        write()


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (OSError(errno.EIO, "Input/output error"), RuntimeError("a defect of ours"), OSError("3 written")):
        with pytest.raises(type(error), match=str(error.args[-1])), atomic_file(tmp_path / "a.txt"):
            raise error
    assert not is_disk_full(OSError("7 requested and 3 written"), tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (2 * 10**13, "20.0 TB"),
    ],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert in_words(count) == words
