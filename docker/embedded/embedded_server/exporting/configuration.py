"""What a Keras file says its model is made of, looked at without Keras.

A configuration is JSON. Where it describes an object, it has a dictionary with a `class_name`; there may be
one at any depth: layers, what layers are made of, functions, constants. Each is looked at, and what is not
known to be harmless is refused. Keras' own safe_mode is on as well, but has had ways around it: it did not
count for .h5 files (CVE-2025-9905), and a configuration could switch it off (CVE-2025-9906) or have
any module imported (CVE-2025-1550).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from embedded_server.exporting.errors import Refused, quoted
from embedded_server.exporting.known import UNSAFE, known

_CONSTANTS = frozenset(
    {
        "__keras_tensor__",
        "__tensor__",
        "__numpy__",
        "__bytes__",
        "__ellipsis__",
        "__slice__",
        "__tuple__",
        "TensorShape",
    }
)
"""Values that JSON has no form for (keras/src/saving/serialization_lib.py, legacy/saving/json_utils.py)."""
_FUNCTION = "function"
_LAMBDA = "__lambda__"
_TRAINING = "compile_config"
_LAYERS = ("layers", "config")
"""Where lists of layers are; the second as Keras 2.0 wrote a Sequential."""
_PATHS = ("vocabulary",)
"""Arguments of layers that Keras takes for the path of a file if they are a text."""


def parsed(text: bytes | str) -> dict[str, Any]:
    """The configuration in `text`. Raises Refused if it is not one."""
    try:
        # As Keras decodes it; by itself, json would guess the encoding.
        configuration = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(f"its configuration is not JSON ({error})") from error
    if not isinstance(configuration, dict) or "class_name" not in configuration:
        raise Refused("its configuration describes no model")
    return configuration


def drop_training(configuration: dict[str, Any]) -> None:
    """Remove how models were compiled, at every depth: losses and optimizers, which serving does not need."""
    for value, _, _ in _objects(configuration):
        value.pop(_TRAINING, None)


def check(configuration: dict[str, Any]) -> None:
    """Raises Refused, with the layer's name, if anything in the configuration is not known to be harmless."""
    for value, owner, is_owner in _objects(configuration):
        _check_object(value, owner, f"{owner} is" if is_owner else f"{owner} holds")


def _objects(configuration: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, bool]]:
    """Every dictionary at any depth, in the order of the file.

    With what to call the layer that it belongs to, and whether it describes that layer itself. Not recursive:
    the depth is the file's choice.
    """
    waiting: list[tuple[Any, str, str]] = [(configuration, "", "the model")]
    while waiting:
        value, key, owner = waiting.pop()
        if isinstance(value, dict):
            is_layer = key in _LAYERS and "class_name" in value
            owner = _called(value) if is_layer else owner
            yield value, owner, is_layer
            waiting.extend((value[child], child, owner) for child in reversed(value))
        elif isinstance(value, list):
            waiting.extend((item, key, owner) for item in reversed(value))


def _called(layer: dict[str, Any]) -> str:
    described = layer.get("config")
    name = described.get("name", layer.get("name")) if isinstance(described, dict) else layer.get("name")
    # A custom layer may leave its name out of its configuration.
    return f"the layer {quoted(name)}" if name is not None else f"a layer {quoted(layer['class_name'])}"


def _check_object(value: dict[str, Any], owner: str, owner_is: str) -> None:
    for name in _PATHS:
        if isinstance(value.get(name), str):
            raise Refused(f"{owner} reads its {name} from another file, {quoted(value[name])}")
    registered = value.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        raise Refused(f"{owner} needs the custom object {quoted(registered)}, which is Python code")
    if "class_name" not in value:
        return
    name, module = value["class_name"], value.get("module")
    if name == _LAMBDA:
        raise Refused(f"{owner} has a lambda, which is Python code")
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise Refused(f"{owner} has an object whose class is {quoted(name)} of {quoted(module)}")
    if name in _CONSTANTS:
        if module is not None or registered is not None:
            raise Refused(f"{owner} has a constant {quoted(name)} that names a Python module or object")
    elif name == _FUNCTION:
        _check_function(value, module, owner)
    else:
        _check_class(value, name, module, owner, owner_is)


def _check_function(value: dict[str, Any], module: str | None, owner: str) -> None:
    # Keras may take either of them for the function's name.
    names = [value.get("config"), value.get("registered_name") or _FUNCTION]
    for name in [names[0], *(given for given in names[1:] if given != _FUNCTION)]:
        if not isinstance(name, str) or (module, name) not in known().functions:
            place = "" if module is None else f" of {quoted(module)}"
            raise Refused(
                f"{owner} needs the function {quoted(name)}{place}, which is not one of Keras' own for layers"
            )


def _check_class(value: dict[str, Any], name: str, module: str | None, owner: str, owner_is: str) -> None:
    if name in UNSAFE:
        raise Refused(f"{owner_is} a {name} layer, which {UNSAFE[name]}")
    if ">" in name:
        raise Refused(f"{owner} needs the custom object {quoted(name)}, which is Python code")
    if module is not None and module != "keras" and not module.startswith("keras."):
        raise Refused(
            f"{owner} needs {quoted(name)} of the Python module {quoted(module)}, which is not part of Keras"
        )
    is_known = name in known().class_names if module is None else (module, name) in known().classes
    if not is_known:
        place = "" if module is None else f" of {quoted(module)}"
        raise Refused(
            f"{owner} needs the class {quoted(name)}{place}, which is not one of Keras' own for layers"
        )
    registered = value.get("registered_name")
    if registered not in (None, "", name):
        raise Refused(f"{owner} needs the custom object {quoted(registered)}, which is Python code")
