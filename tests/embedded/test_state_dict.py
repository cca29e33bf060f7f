"""embedded_server.exporting.state_dict: weights of PyTorch, read without PyTorch, and hostile files."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from embedded_server.exporting import state_dict
from embedded_server.exporting.errors import Refused

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
FACTS = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
SIZES = {"FloatStorage": ("<f4", 4), "LongStorage": ("<i8", 8)}


class Named:
    """Pickled as a name in a module, as PyTorch's own are."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    """Pickled as a persistent id."""

    def __init__(self, values: Sequence[float], kind: str = "FloatStorage", key: str = "1") -> None:
        self.values, self.kind, self.key = values, kind, key
        self.pid = ("storage", Named("torch", kind), key, "cpu", len(values), None)


class Called:
    """Pickled as a call of a named function."""

    def __init__(self, function: Named, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


class Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]  # the one in Python can be given names
    """Writes what PyTorch writes, without PyTorch."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def persistent_id(self, thing: object) -> object:
        return thing.pid if isinstance(thing, Storage) else None

    def named(self, thing: Named) -> None:
        self.write(pickle.GLOBAL + f"{thing.module}\n{thing.name}\n".encode())

    def called(self, thing: Called) -> None:
        self.save(thing.function)
        self.save(thing.arguments)
        self.write(pickle.REDUCE)

    dispatch[Named] = named
    dispatch[Called] = called


def pickled(thing: object) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, 2).dump(thing)
    return stream.getvalue()


def tensor(storage: object, shape: object, strides: object, offset: object = 0) -> Called:
    rebuild = Named("torch._utils", "_rebuild_tensor_v2")
    return Called(rebuild, storage, offset, shape, strides, False, OrderedDict())


def written(path: Path, state: object, storages: Sequence[Storage]) -> Path:
    """A file as torch.save wrote it before PyTorch 1.6."""
    parts = [pickled(part) for part in (MAGIC, VERSION, FACTS, state, [one.key for one in storages])]
    for storage in storages:
        dtype, _ = SIZES[storage.kind]
        parts.append(struct.pack("<q", len(storage.values)) + np.array(storage.values, dtype).tobytes())
    path.write_bytes(b"".join(parts))
    return path


def test_tensors_come_as_they_are_in_the_file(tmp_path: Path) -> None:
    numbers, steps = Storage(range(7)), Storage([2**40], "LongStorage", "2")
    state = OrderedDict(
        matrix=tensor(numbers, (2, 3), (3, 1), 1),
        turned=tensor(numbers, (3, 2), (1, 3), 1),
        count=tensor(steps, (), ()),
    )
    read = state_dict.read(written(tmp_path / "w.pth", state, [numbers, steps]))
    assert read["matrix"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read["turned"].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert read["count"] == 2**40
    assert [value.dtype for value in read.values()] == [np.float32, np.float32, np.int64]


EXECUTED = "executed"


def a_command(folder: Path) -> object:
    return Called(Named("os", "system"), f"touch {folder / EXECUTED}")


def python(folder: Path) -> object:
    return Called(Named("builtins", "exec"), f"open({str(folder / EXECUTED)!r}, 'w')")


def an_attribute(folder: Path) -> object:
    return Called(Named("builtins", "getattr"), Named("os", "system"), "__call__")


def a_module_of_torch(folder: Path) -> object:
    return Called(Named("torch.hub", "load"), str(folder))


def a_dotted_name(folder: Path) -> object:
    return Called(Named("collections", "OrderedDict.fromkeys"), ("a",))


@pytest.mark.parametrize("hostile", [a_command, python, an_attribute, a_module_of_torch, a_dotted_name])
@pytest.mark.parametrize("part", range(5))
def test_nothing_is_executed(tmp_path: Path, hostile: Callable[[Path], object], part: int) -> None:
    parts: list[object] = [MAGIC, VERSION, FACTS, {}, []]
    parts[part] = hostile(tmp_path)
    path = tmp_path / "w.pth"
    path.write_bytes(b"".join(map(pickled, parts)))
    with pytest.raises(Refused, match="which is no part of a tensor"):
        state_dict.read(path)
    assert not (tmp_path / EXECUTED).exists()


@pytest.mark.parametrize("protocol", [0, 4])
def test_what_runs_when_it_is_unpickled_is_not_run(tmp_path: Path, protocol: int) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / EXECUTED}",)

    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps(Hostile(), protocol))
    with pytest.raises(Refused):
        state_dict.read(path)
    assert not (tmp_path / EXECUTED).exists()


def test_a_memo_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.PROTO + b"\x02" + pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\xff" + b".")
    with pytest.raises(Refused, match="a place in its memo"):
        state_dict.read(path)


FOUR = Storage([1, 2, 3, 4])
SHAPES = "has a shape that is none"


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"a": tensor(FOUR, (5,), (1,))}, "larger than its storage"),
        ({"a": tensor(FOUR, (2,), (1,), 3)}, "larger than its storage"),
        ({"a": tensor(FOUR, (2, 2), (4, 1))}, "larger than its storage"),
        ({"a": tensor(FOUR, (10**6, 10**6), (0, 0))}, "larger than its storage"),
        ({"a": tensor(FOUR, (2,), (-1,), 3)}, SHAPES),
        ({"a": tensor(FOUR, (-2,), (1,))}, SHAPES),
        ({"a": tensor(FOUR, (2.0,), (1,))}, "BINFLOAT, which no state dict needs"),
        ({"a": tensor(FOUR, (True,), (1,))}, SHAPES),
        ({"a": tensor(FOUR, [2], (1,))}, SHAPES),
        ({"a": tensor(FOUR, (2,), (1, 1))}, SHAPES),
        ({"a": tensor("1", (2,), (1,))}, "has no storage"),
        ({"a": 3}, "'a' in it is no tensor"),
        ({3: tensor(FOUR, (4,), (1,))}, "3 in it is no tensor"),
        ([tensor(FOUR, (4,), (1,))], "it holds no state dict"),
        ({}, "its storages are not those of its tensors"),
    ],
)
def test_what_no_state_dict_holds_is_refused(tmp_path: Path, state: object, why: str) -> None:
    with pytest.raises(Refused, match=why):
        state_dict.read(written(tmp_path / "w.pth", state, [FOUR]))


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pth", {"a": tensor(FOUR, (4,), (1,))}, [FOUR])
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(Refused):
            state_dict.read(path)


@pytest.mark.parametrize("damage", [b"", b"no pickle", b"PK\x03\x04", bytes(64)])
def test_other_files_are_refused(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(damage)
    with pytest.raises(Refused):
        state_dict.read(tmp_path / "w.pth")
