"""Weight files of every kind, damaged and foreign ones included: what is read, and what messages say of the others."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import tarfile
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from robis.encoders.fitting import check_nothing_dropped, check_state
from robis.encoders.weights import read_state
from robis.errors import WeightsError

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([0.5, 1.5])}


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_state(path, sha256=None, key="encoder.weights")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin"])
def test_safetensors_are_known_by_content(tmp_path: Path, name: str) -> None:
    save_file(STATE, tmp_path / name)
    state = read(tmp_path / name)
    assert state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "teacher"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_and_prefixes_are_taken_off(tmp_path: Path, wrapper: str, prefix: str, zipped: bool) -> None:
    content = {"epoch": 3, wrapper: {prefix + key: value for key, value in STATE.items()}}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    state = read(tmp_path / "w.pth")
    assert state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "weights elsewhere")


def write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "file")


@pytest.mark.parametrize(
    ("write", "kind", "advice"),
    [
        (lambda path: path.write_bytes(b""), "it is empty", "Download the file again"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
            "it is a Git LFS pointer",
            "git lfs pull",
        ),
        (lambda path: path.write_text("\n<!DOCTYPE html><title>Sign in</title>"), "it is an HTML page", "Download"),
        (lambda path: path.write_text("<html><body>404</body></html>"), "it is an HTML page", "Download"),
        (lambda path: path.write_text('<?xml version="1.0"?><Error/>'), "it is an XML text", "Download"),
        (lambda path: path.write_text(json.dumps({"error": "not found"})), "it is a JSON text", "Download the weights"),
        (lambda path: path.write_bytes(gzip.compress(b"weights")), "it is a gzip archive", "Unpack it"),
        (lambda path: path.open("wb").write(b"\x93NUMPY\x01\x00"), "it is a NumPy array", "safetensors"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), "it is an HDF5 file", "safetensors"),
        (write_zip, "it is a zip archive, but no torch file", "Unpack it"),
        (write_tar, "it is a tar archive", "Unpack it"),
        (lambda path: path.write_bytes(bytes(range(40, 240))), r"it is damaged, .* \(200 bytes\)", "Download the file"),
        (
            lambda path: path.write_bytes(pickle.dumps(Namespace(lr=1))),
            "it is a pickle of more than tensors",
            "as .safe",
        ),
        (
            lambda path: torch.save({"a": Namespace(lr=1)}, path),
            r"it is a pickle of .* \(argparse\.Namespace\)",
            "as .safe",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_messages_say_what_a_file_is(
    tmp_path: Path, write: Callable[[Path], object], kind: str, advice: str, suffix: str
) -> None:
    path = tmp_path / f"w{suffix}"
    write(path)
    with pytest.raises(
        WeightsError, match=rf"encoder\.weights: .*w{suffix} is not a readable weights file: {kind}"
    ) as error:
        read(path)
    assert advice in str(error.value)
    for word in ("weights_only", "torch.load", "unpickle", "allowlist", "safe_globals"):
        assert word not in str(error.value)


@pytest.mark.parametrize("cut", [3, 9, 100, 300, 1000])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "legacy.pth"])
def test_cut_files_are_refused(tmp_path: Path, name: str, cut: int) -> None:
    path = tmp_path / name
    state = {"a": torch.zeros(1000), "b": torch.zeros(4)}
    if name.endswith(".safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name == "w.pth")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(WeightsError, match=rf"{name} is not a readable weights file: it is") as error:
        read(path)
    assert "weights_only" not in str(error.value)


def test_nothing_is_run(tmp_path: Path) -> None:
    torch.save({"model": Trap(tmp_path / "sprung")}, tmp_path / "new.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    for name in ("new.pth", "plain.pth"):
        with pytest.raises(WeightsError, match=rf"{name} is not a readable weights file: it is a pickle of more than"):
            read(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "holds 'a' of type int, no state dict"),
        ([1, 2], "holds an object of type list, no state dict"),
        ({}, "holds an empty state dict"),
        ({"model": {"a": [1]}}, "holds 'a' of type list, no state dict"),
        (torch.zeros(3), "holds an object of type Tensor, no state dict"),
    ],
)
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        read(tmp_path / "w.pth")


def test_a_weight_under_two_names_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2), "module.a": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth holds 'a' twice, with and without a prefix \('module\.a'\)"):
        read(tmp_path / "w.pth")


def check(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    check_state(state, expected, source="encoder.weights: w", made_for="tiny")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64, torch.float32])
def test_floats_that_float32_holds_exactly_fit(kind: torch.dtype) -> None:
    check({"a": torch.tensor([0.5, -3.0], dtype=kind)}, {"a": torch.zeros(2)})


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.tensor([0.1, 2.0], dtype=torch.float64), "float64"),
        (torch.tensor([1, 2]), "int64"),
        (torch.tensor([True, False]), "bool"),
        (torch.tensor([1j, 2j]), "complex64"),
        (torch.tensor([0.5, 1.0]).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    ],
)
def test_values_that_would_be_rounded_or_reinterpreted_are_refused(value: torch.Tensor, kind: str) -> None:
    with pytest.raises(WeightsError, match=rf"w: 'a' is {kind}; tiny needs float32, .* Save the weights as float32\."):
        check({"a": value}, {"a": torch.zeros(2)})


def test_integers_fit_integers_that_hold_them() -> None:
    expected = {"count": torch.tensor(0, dtype=torch.int32)}
    check({"count": torch.tensor(7)}, expected)
    with pytest.raises(WeightsError, match="'count' is int64; tiny needs int32"):
        check({"count": torch.tensor(2**40)}, expected)
    with pytest.raises(WeightsError, match="'count' is float32; tiny needs int32"):
        check({"count": torch.tensor(7.0)}, expected)


def test_keys_and_shapes_are_compared_in_the_models_order() -> None:
    expected = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"w: has no 'a'; expected \(2,\) for tiny"):
        check({"b": torch.zeros(4)}, expected)
    with pytest.raises(WeightsError, match=r"w: 'b' is \(4,\); expected \(3,\) for tiny\. The file was made"):
        check({"a": torch.zeros(2), "b": torch.zeros(4)}, expected)
    with pytest.raises(WeightsError, match=r"w: has 'c', \(5,\), which tiny does not"):
        check(expected | {"c": torch.zeros(5)}, expected)


def test_parts_of_weights_that_are_left_out_are_noticed() -> None:
    fused = torch.arange(1.0, 7.0)
    names = {"source": "w", "made_for": "tiny"}
    check_nothing_dropped({"a": fused}, fused.chunk(3), ignored=(), **names)
    with pytest.raises(WeightsError, match="w: 'a' differs from zero, but tiny has no place for it"):
        check_nothing_dropped({"a": fused}, fused.chunk(3)[::2], ignored=(), **names)
    check_nothing_dropped({"a": fused}, (), ignored=("a",), **names)
    fused[2:4] = 0
    check_nothing_dropped({"a": fused}, fused.chunk(3)[::2], ignored=(), **names)


def test_digests_are_compared_in_any_case(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    digest = hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert read_state(tmp_path / "w.safetensors", sha256=digest.upper(), key="encoder.weights")
    with pytest.raises(WeightsError, match=rf"w\.safetensors has sha256 {digest}; expected 0000.*encoder\.sha256\."):
        read_state(tmp_path / "w.safetensors", sha256="0" * 64, key="encoder.weights")
