"""What a Keras file would have Keras do: read without Keras, and refused where that is more than arithmetic.

A `.keras` or `.h5` file names classes and functions, and Keras imports and calls what it names. A Lambda
layer holds Python code outright. Keras' own protection was passed by several times (CVE-2025-1550: any
function of any module; CVE-2025-9905: .h5 files ignore it; CVE-2025-9906: a file switches it off), so nothing
that is not Keras' own gets that far.
"""

from __future__ import annotations

import inspect
import json
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from embedded_server.errors import StartError

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
_METADATA, _ASSETS = "metadata.json", "assets/"
_LARGEST_CONFIG = 64 << 20
"""Bytes of JSON. A model of a thousand layers has less than one MiB."""
_MOST_ENTRIES = 100_000
_DENIED = {
    "Lambda": "a Lambda layer holds Python code",
    "__lambda__": "it holds Python code",
    "TFSMLayer": "a TFSMLayer loads another SavedModel",
    "TorchModuleWrapper": "a TorchModuleWrapper holds a pickled PyTorch module",
    "JaxLayer": "a JaxLayer holds compiled code",
    "FlaxLayer": "a FlaxLayer holds compiled code",
}
"""Class -> why it is refused."""
_VALUES = frozenset({
    "__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__",
})  # fmt: skip
"""Names that stand for values, and not for classes."""
_OF_FUNCTIONS = ("keras.activations", "keras.initializers", "keras.regularizers", "keras.constraints")
_OF_CLASSES = (
    "keras", "keras.layers", "keras.models", "keras.dtype_policies", "keras.optimizers", "keras.losses",
    "keras.metrics", "keras.optimizers.schedules", *_OF_FUNCTIONS,
)  # fmt: skip
"""Where classes may be from; Keras names some by the module that they are written in."""
_INSIDE = ("keras.src.models.functional", "keras.src.models.sequential", "keras.src.ops.")
_OLD_NAMES = frozenset({"Functional", "Model", "Policy"})
"""Classes of files of Keras 2, which name no modules, that Keras 3 has under other names."""
_VOCABULARIES = frozenset({"StringLookup", "IntegerLookup", "TextVectorization"})


def check(file: Path) -> None:
    """Raises StartError, naming the layer, unless Keras can load `file` without any code but its own."""
    if zipfile.is_zipfile(file):
        _check_archive(file)
    elif h5py.is_hdf5(file):
        with h5py.File(file, "r") as opened:
            _check_hdf5(opened)
            text = opened.attrs.get("model_config")
        if text is None:
            raise StartError("it holds weights only, and no model: save the model with model.save(FILE)")
        _check_config(_parsed(text))
    else:
        raise StartError("it is neither a .keras file nor an HDF5 file")


def _check_archive(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > _MOST_ENTRIES:
                raise StartError(f"it has more than {_MOST_ENTRIES} entries")
            for entry in entries:
                _check_entry(entry)
            names = [entry.filename for entry in entries]
            if len(set(names)) < len(names):
                raise StartError("two of its entries have the same name")
            if CONFIG not in names:
                raise StartError(f"it has no {CONFIG}")
            if archive.getinfo(CONFIG).file_size > _LARGEST_CONFIG:
                raise StartError(f"its {CONFIG} is larger than {_LARGEST_CONFIG >> 20} MiB")
            _check_config(_parsed(archive.read(CONFIG)))
            for name in names:
                if name.endswith(".h5"):
                    with archive.open(name) as stored, h5py.File(stored, "r") as opened:
                        _check_hdf5(opened)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise StartError(f"it is damaged ({error})") from error


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    known = name in (CONFIG, _METADATA) or name.startswith(_ASSETS) or name.startswith("model.weights")
    parts = name.split("/")
    if not known or ".." in parts or "\\" in name or "\0" in entry.orig_filename:
        raise StartError(f"it has an entry that no Keras model has: {name!r}")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or entry.flag_bits & 1:
        raise StartError(f"its entry {name!r} is no plain file")


def _check_hdf5(opened: h5py.File) -> None:
    """No part may be in another file: HDF5 opens any that a link or a dataset names."""
    seen = set()

    def walk(group: h5py.Group) -> None:
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise StartError(f"it has a link to somewhere else: {group.name}/{name}")
            found = group[name]
            address = h5py.h5o.get_info(found.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                walk(found)
            elif isinstance(found, h5py.Dataset) and (found.external or found.is_virtual):
                raise StartError(f"its dataset {found.name} is in another file")

    walk(opened)


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StartError(f"its configuration is no JSON ({error})") from error


def _check_config(config: Any) -> None:
    import keras

    if not isinstance(config, Mapping) or "class_name" not in config:
        raise StartError("its configuration describes no model")
    # How it was trained is not loaded.
    config = {key: value for key, value in config.items() if key != "compile_config"}
    try:
        for name, described in _described(config, ""):
            reason = _why_not(described, keras)
            if reason is not None:
                where = f"its layer {name!r}" if name else "it"
                raise StartError(f"{where} cannot be loaded safely: {reason}")
    except RecursionError as error:
        raise StartError("its configuration is nested too deeply") from error


def _described(value: Any, layer: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every object that the configuration describes, with the name of the layer that it belongs to."""
    if isinstance(value, Mapping):
        config = value.get("config")
        if "class_name" in value:
            if isinstance(config, Mapping) and isinstance(config.get("name"), str):
                layer = config["name"]
            yield layer, value
        elif "module" in value or "registered_name" in value:
            yield layer, {"class_name": None, **value}
        for one in value.values():
            yield from _described(one, layer)
    elif isinstance(value, list):
        for one in value:
            yield from _described(one, layer)


def _why_not(described: Mapping[str, Any], keras: Any) -> str | None:
    """Why an object of the configuration is refused; None if it is Keras' own and only computes."""
    name, module = described.get("class_name"), described.get("module")
    registered, config = described.get("registered_name"), described.get("config")
    if not isinstance(name, str) or not isinstance(module, str | None):
        return "it names no class"
    if name in _DENIED:
        return _DENIED[name]
    if name in _VALUES:
        return None
    if name in _VOCABULARIES and isinstance(config, Mapping) and isinstance(config.get("vocabulary"), str):
        return f"it reads the file {config['vocabulary']!r}"
    if name == "function":
        # Keras looks for what is called builtins in modules of its own before those of Python.
        places = {"builtins": "keras.activations", **{place: place for place in _OF_FUNCTIONS}}
        is_own = isinstance(config, str) and _is_function(places.get(module or "", ""), config)
        return None if is_own and registered in (None, config, "function") else f"it calls {module}.{config}"
    if registered not in (None, name):
        return f"{registered} is a class of one's own"
    if module is None:
        is_known = name in _OLD_NAMES or any(_is_class(place, name, keras) for place in _OF_CLASSES)
        return None if is_known else f"{name} is no class of Keras"
    is_place = module in _OF_CLASSES or module.startswith(_INSIDE)
    return None if is_place and _is_class(module, name, keras) else f"{module}.{name} is no class of Keras"


def _is_function(module: str, name: str) -> bool:
    return inspect.isfunction(getattr(sys.modules.get(module), name, None))


def _is_class(module: str, name: str, keras: Any) -> bool:
    found = getattr(sys.modules.get(module), name, None)
    kinds = (
        keras.Operation, keras.Layer, keras.initializers.Initializer, keras.regularizers.Regularizer,
        keras.constraints.Constraint, keras.dtype_policies.DTypePolicy, keras.optimizers.Optimizer,
        keras.losses.Loss, keras.metrics.Metric, keras.optimizers.schedules.LearningRateSchedule,
    )  # fmt: skip
    return inspect.isclass(found) and issubclass(found, kinds)
