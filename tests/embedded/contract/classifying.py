"""classify and regress: half_plus_two, whose Examples have the feature x."""

from __future__ import annotations

from typing import Any

from contract.case import GUIDE, HALF, JSON_TENSOR, Rest, asked

EXAMPLES: list[dict[str, Any]] = [{"x": 1.0}, {"x": 2.0}]
REGRESS, CLASSIFY = "regress_x_to_y", "classify_x_to_y"


def judged(name: str, body: object, answer: Any = None, *, method: str = "regress", **more: Any) -> Rest:
    signature = more.pop("signature", REGRESS if method == "regress" else CLASSIFY)
    return asked(
        f"{method}: {name}", body, answer, signature=signature, path=f"/v1/models/{HALF}:{method}", **more
    )


def _each() -> list[Rest]:
    found: list[Rest] = []
    for method in ("regress", "classify"):

        def results(*values: float, method: str = method) -> dict[str, Any]:
            return {"results": [v if method == "regress" else [["", v]] for v in values]}

        def add(name: str, body: object, answer: Any = None, *, method: str = method, **more: Any) -> None:
            found.append(judged(name, body, answer, method=method, **more))

        add("examples", {"examples": EXAMPLES}, results(2.5, 3.0), source=GUIDE)
        add("one example", {"examples": EXAMPLES[:1]}, results(2.5))
        add("a list of one value", {"examples": [{"x": [1.0]}]}, results(2.5))
        add("a context", {"context": {"x": 2.0}, "examples": [{}, {}]}, results(3.0, 3.0), source=GUIDE)
        add(
            "an example goes before the context",
            {"context": {"x": 2.0}, "examples": [{"x": 1.0}, {}]},
            results(2.5, 3.0),
        )
        add("an empty context", {"context": {}, "examples": EXAMPLES}, results(2.5, 3.0))
        add(
            "features that are not used",
            {"examples": [{"x": 1.0, "y": "text", "z": [1, 2], "w": []}]},
            results(2.5),
        )
        add("a zero", '{"examples": [{"x": 0.0}]}', results(2.0))
        add("a negative number", '{"examples": [{"x": -3.0}]}', results(0.5))
        add("an exponent", '{"examples": [{"x": 1e1}]}', results(7.0))
        add("a large float", '{"examples": [{"x": 20000000.0}]}', results(10000002.0))
        add("keys that are not known", {"examples": EXAMPLES, "instances": 1}, results(2.5, 3.0))
        add(
            "no key for the examples",
            {"instances": EXAMPLES},
            message="key 'examples' is expected and was not found",
        )
        add(
            "examples that are no list",
            {"examples": EXAMPLES[0]},
            message="Expecting 'examples' value to be an list/array",
        )
        add("no examples", {"examples": []}, message="'examples' value is an empty array")
        add(
            "an example that is a number",
            {"examples": [1.0]},
            message="Example must be JSON object but got JSON Number",
        )
        add(
            "an example that is a list",
            {"examples": [[1.0]]},
            message="Example must be JSON object but got JSON Array",
        )
        add(
            "an example that is null",
            {"examples": [None]},
            message="Example must be JSON object but got JSON Null",
        )
        add(
            "an example that is text",
            {"examples": ["x"]},
            message="Example must be JSON object but got JSON String",
        )
        add(
            "a context that is a list",
            {"context": [], "examples": EXAMPLES},
            message="Example must be JSON object but got JSON Array",
        )
        add(
            "a feature that is null",
            {"examples": [{"x": None}]},
            message="Feature: x has element with unexpected JSON type: Null",
        )
        add(
            "a feature of lists",
            {"examples": [{"x": [[1.0]]}]},
            message="Feature: x has element with unexpected JSON type: Array",
        )
        add(
            "a feature that is an object",
            {"examples": [{"x": {"a": 1}}]},
            message="Feature: x has element with unexpected JSON type: Object",
        )
        add(
            "a feature of two kinds",
            {"examples": [{"x": [1.0, "a"]}]},
            message="Unexpected element type in feature: x expecting type: float",
        )
        add(
            "whole numbers next to fractions",
            {"examples": [{"x": [1, 2.5]}]},
            message="Unexpected element type in feature: x expecting type: int64",
        )
        add(
            "a whole number beyond int64",
            '{"examples": [{"y": 9223372036854775808}]}',
            message="Feature: y has uint64 element",
        )
        add(
            "bytes that are no base64", {"examples": [{"y": {"b64": "!"}}]}, message="Unable to base64 decode"
        )
        add(
            "a whole number for a float",
            {"examples": [{"x": 1}]},
            message="Data types don't match|Expected type: float",
        )
        add(
            "a text for a float",
            {"examples": [{"x": "a"}]},
            message="Data types don't match|Expected type: float",
        )
        add("a feature that is missing", {"examples": [{}]}, message="x")
        add("two values for one", {"examples": [{"x": [1.0, 2.0]}]}, message="x")
        add(
            "a signature that is not there",
            {"examples": EXAMPLES},
            signature="none",
            status=400,
            message="none",
        )
        add(
            "a signature that is a number",
            '{"signature_name": 1, "examples": []}',
            signature="",
            message="'signature_name' key must be a string value",
        )
        add("no JSON", "examples", signature="", message="JSON Parse error")
        add("nothing", b"", signature="", message="The document is empty")
    return found


CASES: list[Rest] = [
    *_each(),
    asked("predict: half plus two", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}, path=f"/v1/models/{HALF}:predict", source=GUIDE),
    asked("predict: half plus two in a column", {"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}, path=f"/v1/models/{HALF}:predict", source=GUIDE),
    asked("predict: half plus two, a version", {"instances": [1.0]}, {"predictions": [2.5]}, path=f"/v1/models/{HALF}/versions/123:predict", source=GUIDE),
    asked("predict: half plus two, a label", {"instances": [1.0]}, {"predictions": [2.5]}, path=f"/v1/models/{HALF}/labels/stable:predict", source=GUIDE),
    asked("predict: an example to a signature for regression", {"instances": [{"b64": "Cg0KCwoBeBIGEgQKAgAA"}]}, signature=REGRESS, path=f"/v1/models/{HALF}:predict", message="", status=400, source=JSON_TENSOR),
    asked("predict: a label that is not there", {"instances": [1.0]}, path=f"/v1/models/{HALF}/labels/none:predict", message="none", status=400),
    asked("predict: a version that is not there", {"instances": [1.0]}, path=f"/v1/models/{HALF}/versions/9:predict", message="Servable not found for request: Specific(half_plus_two, 9)", status=404),
]  # fmt: skip
