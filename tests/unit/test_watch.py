"""A watched folder: each file is reported exactly once, whenever the process is killed and whatever files do."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robis.cli import main
from robis.errors import DataError
from robis.io.maps import read_map, read_written_mask
from robis.packs.journal import JOURNAL
from robis.packs.pack import Pack, load_pack
from robis.packs.watch import Patience, Watcher
from tests.unit.test_detector_contract import SPLIT, data, own_process  # noqa: F401
from tests.unit.test_packs import Packed, packed  # noqa: F401

AT_ONCE = Patience(poll=0, settle=0, give_up=float("inf"))


@pytest.fixture(scope="module")
def pack(packed: Packed) -> Pack:  # noqa: F811
    return load_pack(*packed("subspace", subspace={"shots": 0})[1].values(), device="cpu", threads=1)


@pytest.fixture(scope="module")
def images(packed: Packed) -> list[Path]:  # noqa: F811
    root = packed("subspace", subspace={"shots": 0})[0].project.root
    return sorted((root / "nut" / SPLIT).rglob("*.png"))[:3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def looks(watcher: Watcher, count: int) -> None:
    """Let a watcher look at its folder so many times, and close it."""
    left = iter(range(count))
    watcher.run(lambda: next(left, None) is None)


def watch(pack: Pack, folder: Path, patience: Patience = AT_ONCE, count: int = 12) -> list[dict[str, Any]]:
    """Look at a folder until all is done; the lines of the journal."""
    looks(Watcher(pack, folder, folder.parent / "out", patience=patience), count)
    return journal(folder.parent / "out")


def journal(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()][1:]


def age(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def test_the_oldest_comes_first_and_a_restart_inspects_nothing_again(
    pack: Pack, images: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, image, time in (("b/new.png", images[0], 300), ("old.png", images[1], 100), ("a.png", images[2], 200)):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, folder / name)
        age(folder / name, time)
    shutil.copy(images[0], folder / ".hidden.png")
    shutil.copy(images[0], folder / "part.png.tmp")
    lines = watch(pack, folder)
    assert [line["file"] for line in lines] == ["old.png", "a.png", "b/new.png"]
    for line, image in zip(lines, (images[1], images[2], images[0]), strict=True):
        expected = pack.inspect(image)
        assert (line["score"], line["is_anomalous"]) == (expected.score, expected.is_anomalous)
        assert read_map(folder.parent / "out" / line["map"]).tobytes() == expected.map.tobytes()
        mask = read_written_mask(folder.parent / "out" / line["mask"], stage="inspect")
        assert mask.tobytes() == expected.mask.tobytes()
    monkeypatch.setattr(Pack, "inspect", lambda *args, **options: pytest.fail("inspected again"))
    assert watch(pack, folder) == lines


def test_copies_and_renamed_files_are_reported_and_not_inspected_again(
    pack: Pack, images: list[Path], folder: Path
) -> None:
    shutil.copy(images[0], folder / "x.png")
    (first,) = watch(pack, folder)
    (folder / "x.png").rename(folder / "y.png")
    shutil.copy(images[0], folder / "z.png")
    lines = watch(pack, folder)
    assert lines[0] == first
    assert sorted((line["file"], line["same_as"]) for line in lines[1:]) == [("y.png", "x.png"), ("z.png", "x.png")]
    for line in lines[1:]:
        assert {key: line[key] for key in ("score", "map", "mask", "regions")} == {
            key: first[key] for key in ("score", "map", "mask", "regions")
        }


def test_a_file_with_another_content_is_another_file(pack: Pack, images: list[Path], folder: Path) -> None:
    shutil.copy(images[0], folder / "x.png")
    watch(pack, folder)
    age(folder / "x.png", 100)
    assert len(watch(pack, folder)) == 1, "the same content, another time"
    shutil.copy(images[1], folder / "x.png")
    before, after = watch(pack, folder)
    assert before["file"] == after["file"] == "x.png"
    for line, image in ((before, images[0]), (after, images[1])):
        assert read_map(folder.parent / "out" / line["map"]).tobytes() == pack.inspect(image).map.tobytes()


def test_a_file_is_read_once_it_has_not_changed_for_a_while(
    pack: Pack, images: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("robis.packs.watch.time.monotonic", lambda: clock[0])
    content, path = images[0].read_bytes(), folder / "x.png"
    watcher = Watcher(pack, folder, folder.parent / "out", patience=Patience(poll=0, settle=2, give_up=30))
    path.write_bytes(content[:100])
    assert watcher.settled() == []
    clock[0] = 1.5
    path.write_bytes(content[:200])
    assert watcher.settled() == []
    clock[0] = 3.0
    assert watcher.settled() == [], "1.5 s after its last change"
    clock[0] = 3.5
    assert watcher.settled() == ["x.png"]
    looks(watcher, 1)
    assert journal(folder.parent / "out") == [], "cut short: it may still grow"
    path.write_bytes(content)
    (line,) = watch(pack, folder)
    assert line["score"] == pack.inspect(images[0]).score


def test_a_file_that_stays_unreadable_is_reported_once(
    pack: Pack, images: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("robis.packs.watch.time.monotonic", lambda: clock[0])
    (folder / "x.png").write_bytes(images[0].read_bytes()[:200])
    patience = Patience(poll=0, settle=0, give_up=30)
    watcher = Watcher(pack, folder, folder.parent / "out", patience=patience)
    for now, reported in ((0.0, 0), (29.0, 0), (31.0, 1), (32.0, 1)):
        clock[0] = now
        for file in watcher.settled():
            watcher.process(file)
        assert len(journal(folder.parent / "out")) == reported
    looks(watcher, 0)
    (line,) = watch(pack, folder, patience)
    assert "x.png: not a readable image" in line["error"]


def test_an_image_of_another_size_is_an_error_and_never_a_mask(pack: Pack, folder: Path) -> None:
    import cv2
    import numpy as np

    cv2.imwrite(str(folder / "x.png"), np.zeros((500, 500, 3), np.uint8))
    (line,) = watch(pack, folder)
    assert "x.png: 500 x 500 pixels" in line["error"] and "mask" not in line
    assert not (folder.parent / "out" / "masks").exists()


def test_a_backlog_is_printed(pack: Pack, images: list[Path], folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        shutil.copy(images[0], folder / f"{number}.png")
    with caplog.at_level("INFO", "robis"):
        assert len(watch(pack, folder)) == 5
    assert f"{folder}: 5 images are waiting." in caplog.messages


def forked(work: Callable[[], None]) -> int:
    """Do some work in a process of its own; its exit status as `os.wait` gives it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # a child never returns to pytest
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def kill_at(moment: int, after: bool) -> None:
    """Let SIGKILL end this process at the n-th time that something is brought to the disk or gets its name."""
    count = 0

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*args, **options)
            if count == moment and after:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted

    os.fsync, os.replace = counting(os.fsync), counting(os.replace)  # type: ignore[assignment]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("after", [False, True])
def test_sigkill_at_any_moment_loses_nothing_and_reports_nothing_twice(
    pack: Pack, images: list[Path], folder: Path, after: bool
) -> None:
    names = ["a.png", "b.png"]
    for name, image in zip(names, images, strict=False):
        shutil.copy(image, folder / name)
    out = folder.parent / "out"

    def killed_run(moment: int) -> Callable[[], None]:
        def work() -> None:
            kill_at(moment, after)
            watch(pack, folder, count=4)

        return work

    moments = 0
    while True:
        moments += 1
        shutil.rmtree(out, ignore_errors=True)
        status = forked(killed_run(moments))
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        before = journal(out) if (out / JOURNAL).exists() else []
        for line in before:
            assert read_map(out / line["map"]).size, "a line before its map"
        # Also what is left of a line that was cut short.
        if (out / JOURNAL).exists():
            with (out / JOURNAL).open("a") as stream:
                stream.write('{"file": "b.p')
        lines = watch(pack, folder, count=4)
        assert [line["file"] for line in lines] == names
        assert lines[: len(before)] == before
        for line, image in zip(lines, images, strict=False):
            assert read_map(out / line["map"]).tobytes() == pack.inspect(image).map.tobytes()
    assert moments > 10, "too few moments"
    assert not list(out.rglob("*.partial.*"))


def test_one_process_writes_a_journal_and_one_pack(pack: Pack, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = folder.parent / "out"
    watcher = Watcher(pack, folder, out)
    with pytest.raises(DataError, match="another `robis inspect --watch` writes there"):
        Watcher(pack, folder, out)
    looks(watcher, 0)
    monkeypatch.setattr(pack, "digest", "0" * 64)
    with pytest.raises(DataError, match="written with another pack"):
        Watcher(pack, folder, out)


def test_a_damaged_journal_and_a_missing_folder_are_named(pack: Pack, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: no such folder"):
        Watcher(pack, tmp_path / "nothing", tmp_path / "out")
    for out in (folder, folder.parent):
        with pytest.raises(DataError, match="masks would come into the watched folder"):
            Watcher(pack, folder, out)
    looks(Watcher(pack, folder, tmp_path / "out"), 0)
    with (tmp_path / "out" / JOURNAL).open("a") as stream:
        stream.write("no JSON\n")
    with pytest.raises(DataError, match=r"journal.jsonl: line 2 is not JSON"):
        Watcher(pack, folder, tmp_path / "out")


def test_the_command_watches_until_a_signal_comes(
    packed: Packed,  # noqa: F811
    images: list[Path],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (pack_folder,) = packed("subspace", subspace={"shots": 0})[1].values()
    shutil.copy(images[0], folder / "x.png")
    report = Watcher.process

    def process_and_stop(self: Watcher, file: str) -> None:
        report(self, file)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Watcher, "process", process_and_stop)
    monkeypatch.setattr("robis.packs.watch.Patience", lambda: AT_ONCE)
    arguments = ["inspect", str(pack_folder), "--watch", str(folder), "--out", str(folder.parent / "out"), "--json"]
    status = main(arguments)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line == journal(folder.parent / "out")[0]
    assert status == (10 if line["is_anomalous"] else 0)
    assert main([*arguments[:4]]) == 1
    assert "--watch: needs --out" in capsys.readouterr().err
