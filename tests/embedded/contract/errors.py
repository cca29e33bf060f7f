"""Models, versions and types that are not there."""

from __future__ import annotations

from contract.case import HANDLER, JSON_TENSOR, Rest, asked

CASES: list[Rest] = [
    asked("a model that is not there", {"instances": [1]}, path="/v1/models/none:predict", status=404, message="Servable not found for request: Latest(none)", source=HANDLER),
    asked("a version of a model that is not there", {"instances": [1]}, path="/v1/models/none/versions/1:predict", status=404, message="Servable not found for request: Specific(none, 1)", source=HANDLER),
    asked("a version that is not there", {"instances": [[1, 2]]}, path="/v1/models/module/versions/7:predict", status=404, message="Servable not found for request: Specific(module, 7)", source=HANDLER),
    asked("a version beyond int64", {"instances": [[1, 2]]}, path="/v1/models/module/versions/99999999999999999999:predict", message="Failed to convert version: 99999999999999999999 to numeric.", source=HANDLER),
    asked("a type that JSON has not", {"inputs": [1]}, signature="complex_in", status=501, message="to type: complex64", source=JSON_TENSOR),
    asked("an answer of a type that JSON has not", {"instances": [1.0]}, signature="complex", status=400, message="Failed to write JSON value for tensor type: complex64", source=JSON_TENSOR),
    asked("a regression without its body", {}, path="/v1/models/module:regress", message="key 'examples' is expected and was not found", source=JSON_TENSOR),
]  # fmt: skip
