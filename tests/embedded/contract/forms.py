"""Row and column form, named and unnamed inputs, shapes."""

from __future__ import annotations

from contract.case import GUIDE, Rest, asked

X = [[1.0, 2.0], [3.0, 4.0]]
Y = [[4.0, 1.0], [10.0, 2.0]]
"""X times [[2, 0], [1, 0.5]]."""
SEVERAL = {"a": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "b": [2, 3]}
COLUMNS = {"scaled": [[2.0, 4.0, 6.0], [12.0, 15.0, 18.0]], "total": [6.0, 15.0]}
ROWS = [{"scaled": s, "total": t} for s, t in zip(COLUMNS["scaled"], COLUMNS["total"], strict=True)]
INSTANCES = [{"a": a, "b": b} for a, b in zip(SEVERAL["a"], SEVERAL["b"], strict=True)]
LEVEL = "found at incorrect level"
SIZE = "Encountered list at unexpected size"

CASES: list[Rest] = [
    # Rows
    asked("rows, unnamed", {"instances": X}, {"predictions": Y}, source=GUIDE),
    asked("rows, named", {"instances": [{"x": row} for row in X]}, {"predictions": Y}, source=GUIDE),
    asked("one row", {"instances": X[:1]}, {"predictions": Y[:1]}),
    asked("rows of several inputs", {"instances": INSTANCES}, {"predictions": ROWS}, signature="several", source=GUIDE),
    asked(
        "rows of several inputs in another order", {"instances": [dict(reversed(one.items())) for one in INSTANCES]},
        {"predictions": ROWS}, signature="several",
    ),
    asked("rows, the signature named", {"instances": X}, {"predictions": Y}, signature="serving_default"),
    asked("rows, an empty name of a signature", {"signature_name": "", "instances": X}, {"predictions": Y}),
    asked("rows, keys that are not known", {"instances": X, "more": [1], "parameters": {}}, {"predictions": Y}),
    asked("rows of scalars", {"instances": [1.5, 2.5]}, {"predictions": [1.5, 2.5]}, signature="echo_float32"),
    asked("rows of rank 3", {"instances": [[[1], [2]]]}, {"predictions": [[[1], [2]]]}, signature="echo_int32"),
    asked("no values in rows", {"instances": [[], []]}, {"predictions": [[], []]}, signature="echo_float32"),
    asked("no rows", {"instances": []}, message="No values in 'instances' array"),
    asked("rows that are no list", {"instances": 1.0}, message="to be an list/array"),
    asked("rows that are an object", {"instances": {"x": X}}, message="to be an list/array"),
    asked("rows that are null", {"instances": None}, message="to be an list/array"),
    asked("rows that are text", {"instances": "text"}, message="to be an list/array"),
    asked("a plain list for several inputs", {"instances": X}, signature="several",
          message="instances is a plain list, but expecting list of objects"),
    asked("a list after an object", {"instances": [{"x": X[0]}, X[1]]}, message="Expecting object but got list at item 1"),
    asked("an object after a list", {"instances": [X[0], {"x": X[1]}]},
          message="Expecting value/list but got object at item 1"),
    asked("an input that is not known", {"instances": [{"z": X[0]}]}, message="does not have named input: z"),
    asked("one input too many", {"instances": [{"x": X[0], "z": 1}]}, message="does not have named input: z"),
    asked("an input too few", {"instances": [{"a": [1, 2, 3]}]}, signature="several", message="must only have keys|keys must be equal to: a,b"),
    asked("an input too few in the second row", {"instances": [INSTANCES[0], {"b": 1}]}, signature="several",
          message="Failed to process element: 1"),
    asked("an empty object", {"instances": [{}]}, message="Failed to process element: 0"),
    asked("rows of several lengths", {"instances": [[1.0, 2.0], [3.0]]}, message="Failed to process element: 1"),
    asked("rows of several ranks", {"instances": [[1.0, 2.0], 3.0]}, message="Failed to process element: 1"),
    asked("a row that is ragged", {"instances": [[[1.0], [2.0, 3.0]]]}, message=SIZE),
    asked("a row with a number next to a list", {"instances": [[[1.0], 2.0]]}, message=LEVEL),
    asked("a row with a list next to a number", {"instances": [[1.0, [2.0]]]},
          message="Encountered list at unexpected level"),
    asked("rows with the same sizes in other shapes", {"instances": [[[1.0, 2.0]], [[3.0], [4.0]]]}, signature="echo_float32",
          message="Expecting shape [1,2] but got: [2,1]"),
    asked("rows that do not fit the graph", {"instances": [[1.0, 2.0, 3.0]]}, message="Matrix size-incompatible"),
    # Columns
    asked("columns, unnamed", {"inputs": X}, {"outputs": Y}, source=GUIDE),
    asked("columns, named", {"inputs": {"x": X}}, {"outputs": Y}, source=GUIDE),
    asked("columns of several inputs", {"inputs": SEVERAL}, {"outputs": COLUMNS}, signature="several", source=GUIDE),
    asked("columns, inputs that are not known", {"inputs": {**SEVERAL, "c": 1}}, {"outputs": COLUMNS}, signature="several"),
    asked("a scalar", {"inputs": 1.5}, {"outputs": 2.5}, signature="scalar"),
    asked("a scalar, named", {"inputs": {"x": 1.5}}, {"outputs": 2.5}, signature="scalar"),
    asked("an empty column", {"inputs": []}, {"outputs": []}, signature="echo_float32"),
    asked("columns of rank 3", {"inputs": [[[1], [2]]]}, {"outputs": [[[1], [2]]]}, signature="echo_int64"),
    asked("outputs without rows, in columns", {"inputs": [1.0, 2.0, 3.0]}, {"outputs": {"y": [1.0, 2.0, 3.0], "z": [1.0, 2.0]}},
          signature="constant_rows"),
    asked("a list for several inputs", {"inputs": X}, signature="several",
          message="inputs is a plain value/list, but expecting an object"),
    asked("a column too few", {"inputs": {"a": SEVERAL["a"]}}, signature="several", message="Missing named input: b in 'inputs' object."),
    asked("no columns", {"inputs": {}}, message="Missing named input: x in 'inputs' object."),
    asked("columns that are null", {"inputs": None}, message="is not of expected type"),
    asked("columns that are text", {"inputs": "text"}, message="is not of expected type"),
    asked("a column that is ragged", {"inputs": [[1.0, 2.0], [3.0]]}, message=SIZE),
    asked("a column with a number next to a list", {"inputs": [[1.0], 2.0]}, message=LEVEL),
    asked("a column with a list next to a number", {"inputs": [1.0, [2.0]]}, message="Encountered list at unexpected level"),
    asked("columns that do not fit the graph", {"inputs": [[1.0]]}, message="Matrix size-incompatible"),
    # Answers
    asked("outputs of several lengths in rows", {"instances": [1.0, 2.0, 3.0]}, signature="constant_rows",
          message="has inconsistent batch size"),
    asked("a scalar output in rows", {"instances": [1.0]}, signature="scalar", message=""),
    asked("rows of an output without any", {"inputs": {"a": [], "b": []}}, signature="several", message="a"),
    asked("NaN and infinities in rows", {"instances": [0.0, -1.0, 1.0]}, {"predictions": [float("-inf"), float("nan"), 0.0]},
          signature="logarithm", source=GUIDE),
    asked("NaN and infinities in columns", {"inputs": [0.0, -1.0, 1.0]}, {"outputs": [float("-inf"), float("nan"), 0.0]},
          signature="logarithm"),
    # Both, neither
    asked("rows and columns", {"instances": X, "inputs": X}, message="expecting only one of 'inputs' or 'instances' keys"),
    asked("neither rows nor columns", {"signature_name": "serving_default"}, message="Missing 'inputs' or 'instances' key"),
    asked("an empty request", "{}", message="Missing 'inputs' or 'instances' key"),
    asked("rows under another name", {"Instances": X}, message="Missing 'inputs' or 'instances' key"),
    # Signatures
    asked("a signature that is not there", {"instances": X}, signature="none", message='Serving signature name: "none" not found in signature def'),
    asked("a signature in other letters", {"instances": X}, signature="Serving_Default", message="not found in signature def"),
    *(
        asked(f"a signature that is {name}", f'{{"signature_name": {text}, "instances": [[1, 2]]}}',
              message="'signature_name' key must be a string value")
        for name, text in {"a number": "1", "null": "null", "a list": "[]", "an object": "{}", "true": "true"}.items()
    ),
]  # fmt: skip
CASES = [one for one in CASES if one.name not in ("a scalar output in rows", "rows of an output without any")]
