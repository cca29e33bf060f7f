"""Reads the weights in a PyTorch state dict without PyTorch, and without running what the file says.

The format is that of torch.save before PyTorch 1.6 (torch/serialization.py, _legacy_load): five pickles (a
magic number, the version of the format, facts about the writing machine, the state dict, the keys of the
storages), and then each storage as its number of elements and its bytes. A pickle is a program. What this one
may consist of is a list: it can make tuples, dicts and descriptions of tensors, and call nothing else.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np

from embedded_server.exporting.errors import Refused, printable, quoted

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}  # fmt: skip
_OPCODES = frozenset(
    [
        "PROTO",
        "STOP",
        "MARK",
        "GLOBAL",
        "REDUCE",
        "BUILD",
        "BINPERSID",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINUNICODE",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "EMPTY_LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_DICT",
        "SETITEM",
        "SETITEMS",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
    ]
)


class _Storage(NamedTuple):
    """What the pickle says of a storage."""

    key: str
    dtype: str
    elements: int


class _Tensor(NamedTuple):
    """What the pickle says of a tensor."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In elements."""

    def within(self, elements: np.ndarray) -> np.ndarray:
        """The tensor, copied out of its storage."""
        strides = [step * elements.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, strides, writeable=False)
        return np.array(view)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict by their names, as they are in the file. Raises Refused."""
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except Refused:
        raise
    except Exception as error:  # a damaged pickle raises many kinds
        raise Refused(f"it cannot be read as a state dict ({printable(str(error))})") from error


def _read(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    if (_unpickled(file), _unpickled(file)) != (_MAGIC, _VERSION):
        raise Refused("it does not begin as a state dict of PyTorch before 1.6")
    facts = _unpickled(file)
    if not isinstance(facts, Mapping) or facts.get("little_endian") is not True:
        raise Refused("it was not written on a little-endian machine")
    state, keys = _unpickled(file), _unpickled(file)
    if not isinstance(state, Mapping) or not isinstance(keys, list):
        raise Refused("it holds no state dict")
    tensors = {name: _checked(name, tensor) for name, tensor in state.items()}
    described = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if sorted(described) != sorted(keys):
        raise Refused("its storages are not those of its tensors")
    storages = {key: _stored(file, described[key], size) for key in keys}
    return {name: tensor.within(storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _unpickled(file: BinaryIO) -> object:
    """The next pickle, which was looked at before it runs."""
    began = file.tell()
    steps = largest = 0
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name not in _OPCODES:
            raise Refused(f"its pickle has the step {opcode.name}, which no state dict needs")
        steps += 1
        if opcode.name.endswith("BINPUT"):
            largest = max(largest, int(argument or 0))
    if largest > steps:  # the memo is as long as its largest place says
        raise Refused("its pickle has a place in its memo that no state dict needs")
    file.seek(began)
    return _Unpickler(file).load()


class _Rebuild:
    """Stands for torch._utils._rebuild_tensor_v2 in the pickle."""

    __slots__ = ()

    def __call__(
        self, storage: object, offset: object, shape: object, strides: object, *_: object
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise Refused("one of its tensors has no storage")
        lengths, steps, (first,) = _whole(shape), _whole(strides), _whole((offset,))
        if len(lengths) != len(steps):
            raise Refused("one of its tensors has a shape that is none")
        last = first + sum(step * max(length - 1, 0) for length, step in zip(lengths, steps, strict=True))
        # One whose steps are 0 would repeat its elements, and take more memory than the file.
        if last >= storage.elements or math.prod(lengths) > storage.elements:
            raise Refused("one of its tensors is larger than its storage")
        return _Tensor(storage, first, lengths, steps)


class _Unpickler(pickle.Unpickler):
    """Makes tuples, dicts and descriptions of tensors, and calls nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]  # text: nothing can be done with it but to name it
        raise Refused(f"it asks for {quoted(f'{module}.{name}')}, which is no part of a tensor")

    def persistent_load(self, pid: object) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) != 6:
            _no_storage()
        kind, dtype, key, _, elements, view = pid
        if kind != "storage" or dtype not in _DTYPES.values() or not isinstance(key, str) or view is not None:
            _no_storage()
        return _Storage(key, dtype, *_whole((elements,)))


def _no_storage() -> NoReturn:
    raise Refused("it describes a storage as no state dict does")


def _whole(numbers: object) -> tuple[int, ...]:
    """A tuple of whole numbers that are not negative. Raises Refused."""
    if not isinstance(numbers, tuple) or not all(type(number) is int and number >= 0 for number in numbers):
        raise Refused("one of its tensors has a shape that is none")
    return numbers


def _checked(name: object, tensor: object) -> _Tensor:
    if not isinstance(name, str) or not isinstance(tensor, _Tensor):
        raise Refused(f"{quoted(name)} in it is no tensor")
    return tensor


def _stored(file: BinaryIO, storage: _Storage, size: int) -> np.ndarray:
    """The next storage of the file. Raises Refused if it is not as described, or not whole."""
    dtype = np.dtype(storage.dtype)
    count = int.from_bytes(file.read(8), "little")
    if count != storage.elements or count * dtype.itemsize > size - file.tell():
        raise Refused(f"its storage {quoted(storage.key)} is not whole")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype)
