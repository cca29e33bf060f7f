"""Looks at an HDF5 file with weights before Keras reads it: nothing in it may lead out of it.

HDF5 can take data from other files: by links, by external storage, and by virtual datasets. It can name a
filter, a library to load. And a dataset can be declared far larger than what is stored of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py

from embedded_server.exporting.errors import Refused, printable, quoted

_FILTERS = frozenset({*range(1, 7), h5py.h5z.FILTER_LZF})
"""Those that are part of HDF5 or of h5py: deflate, shuffle, fletcher32, szip, nbit, scaleoffset; lzf."""
_MOST_EXPANSION = 100
"""Times as large as its file may the data be. Weights compress by 1.1 to 3 times, pruned ones by 20."""
_SMALL = 64 << 20
"""Bytes that are allowed whatever the file's size: a file of zeros may be tiny."""


def check(path: Path) -> None:
    """Raises Refused if the file leads out of itself, or is not HDF5."""
    try:
        with h5py.File(path, "r") as file:
            size = sum(_size(dataset) for dataset in _datasets(file))
    except Refused:
        raise
    except Exception as error:  # h5py raises many kinds for a damaged file
        raise Refused(f"its weights cannot be read ({printable(str(error))})") from error
    stored = path.stat().st_size
    if size > max(_SMALL, _MOST_EXPANSION * stored):
        raise Refused(f"its weights would take {size} bytes, and the file has {stored}")


def configuration(path: Path) -> bytes | str:
    """The configuration of the model in a whole-model HDF5 file. Raises Refused if there is none."""
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except Exception as error:
        raise Refused(f"it cannot be read as HDF5 ({printable(str(error))})") from error
    if not isinstance(text, str | bytes):
        raise Refused("it holds no model, only weights (there is no model_config in it)")
    return text


def _datasets(file: h5py.File) -> Iterator[h5py.Dataset]:
    """Every dataset, once. Raises Refused for a link that is not a plain one."""
    seen: set[int] = set()
    waiting: list[h5py.Group] = [file]
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            place = f"{group.name.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink):
                raise Refused(f"{quoted(place)} in it is a link to the file {quoted(link.filename)}")
            if not isinstance(link, h5py.HardLink):
                raise Refused(f"{quoted(place)} in it is a link, which Keras does not write")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                yield item


def _size(dataset: h5py.Dataset) -> int:
    """Bytes of its data in memory. Raises Refused for what is not stored in the file as it is."""
    properties = dataset.id.get_create_plist()
    if properties.get_external_count():
        raise Refused(
            f"{quoted(dataset.name)} in it has its data in the file {quoted(properties.get_external(0)[0])}"
        )
    if dataset.is_virtual:
        raise Refused(f"{quoted(dataset.name)} in it has its data in other files (a virtual dataset)")
    for number in range(properties.get_nfilters()):
        code = properties.get_filter(number)[0]
        if code not in _FILTERS:
            raise Refused(f"{quoted(dataset.name)} in it needs the HDF5 filter {code}, a library of its own")
    return int(dataset.size or 0) * int(dataset.dtype.itemsize)
