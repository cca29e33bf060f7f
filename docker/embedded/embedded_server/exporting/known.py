"""The classes and functions of Keras that a configuration may name.

Keras imports the module that a configuration names and takes what is there (CVE-2025-1550 came from that), so
what may be named is listed here: layers, and what layers are made of. Everything else is refused, such as
keras.config and keras.utils, which can switch the protection off or fetch files.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

import keras
from keras.src import applications, ops
from keras.src.models.functional import Functional

_CLASSES = (
    "keras",
    "keras.layers",
    "keras.models",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.mixed_precision",
    "keras.quantizers",
    "keras.random",
    "keras.optimizers",
    "keras.optimizers.schedules",
    "keras.losses",
    "keras.metrics",
)
_FUNCTIONS = (
    "keras.activations",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.losses",
    "keras.metrics",
    "keras.ops",
)
_BUILTINS = "builtins"
"""The module that Keras writes for functions of its own that it knows by their names."""
_MAKERS = frozenset({"get", "deserialize", "serialize"})
"""Functions in those modules that make an object from a configuration of their own."""

UNSAFE = {
    "Lambda": "holds Python code",
    "TFSMLayer": "loads a SavedModel from another place",
    "TorchModuleWrapper": "holds a PyTorch module, which is Python code",
    "JaxLayer": "holds Python code",
    "FlaxLayer": "holds Python code",
}
"""Layers of Keras that are refused, and why."""


@dataclass
class Known:
    """What a configuration may name, by module and name."""

    classes: dict[tuple[str, str], type] = field(default_factory=dict)
    functions: set[tuple[str, str]] = field(default_factory=set)

    @functools.cached_property
    def class_names(self) -> frozenset[str]:
        """For configurations that name no module, as tf.keras 2 wrote them."""
        return frozenset(name for _, name in self.classes)

    def add(self, kind: type, *places: tuple[str, str]) -> None:
        """Allow a class, in its own module and where else it is offered, unless it is unsafe."""
        if issubclass(kind, tuple(getattr(keras.layers, name) for name in UNSAFE)):
            return
        for place in ((kind.__module__, kind.__name__), *places):
            self.classes[place] = kind


@functools.cache
def known() -> Known:
    """What the Keras of this environment offers."""
    allowed = Known()
    for module in map(importlib.import_module, _CLASSES):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if hasattr(kind, "from_config"):
                allowed.add(kind, (module.__name__, name))
    allowed.add(Functional)
    # Models of the functional API hold x + y, x[:, 0] and the like as operations, and some of those in
    # keras.applications have layers of their own.
    for kind in (*_defined_in(ops, keras.Operation), *_defined_in(applications, keras.Layer)):
        allowed.add(kind)
    for module in map(importlib.import_module, _FUNCTIONS):
        for name, _ in inspect.getmembers(module, inspect.isfunction):
            if name not in _MAKERS:
                allowed.functions.add((module.__name__, name))
                if module.__name__ != "keras.ops":
                    allowed.functions.add((_BUILTINS, name))
    return allowed


def _defined_in(package: ModuleType, base: type) -> Iterator[type]:
    """The classes derived from `base` that the modules of a package of Keras define."""
    for module_info in pkgutil.iter_modules(package.__path__):
        if not module_info.name.endswith("_test"):
            module = importlib.import_module(f"{package.__name__}.{module_info.name}")
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if issubclass(kind, base) and kind.__module__ == module.__name__:
                    yield kind
