"""JSON as rapidjson reads it."""

from __future__ import annotations

from contract.case import RAPIDJSON, Rest, asked

DONE = {"predictions": [[4.0, 1.0]]}
ROW = "[1.0, 2.0]"


def taken(name: str, body: str | bytes) -> Rest:
    return asked(name, body, DONE, source=RAPIDJSON)


def refused(name: str, body: str | bytes, message: str = "JSON Parse error") -> Rest:
    return asked(name, body, message=message, source=RAPIDJSON)


CASES: list[Rest] = [
    taken("white space", f' \t\r\n{{ "instances" :\n[ {ROW} ]\t}}\r\n '),
    taken("no white space", '{"instances":[[1.0,2.0]]}'),
    taken("a byte order mark", b'\xef\xbb\xbf{"instances": [[1, 2]]}'),
    taken("text behind a zero byte", f'{{"instances": [{ROW}]}}\0 and more {{'),
    taken("the first of two rows counts", f'{{"instances": [{ROW}], "instances": [[9, 9]]}}'),
    taken("the first of two names of a signature counts", f'{{"signature_name": "", "signature_name": "none", "instances": [{ROW}]}}'),
    taken("keys that are not used", f'{{"a": {{"b": [null, true, "x"]}}, "instances": [{ROW}], "c": 1e5}}'),
    taken("a key that is escaped", f'{{"\\u0069nstances": [{ROW}]}}'),
    taken("an empty key", f'{{"": 1, "instances": [{ROW}]}}'),
    taken("a key that is no UTF-8", b'{"\xff": 1, "instances": [[1, 2]]}'),
    taken("NaN in a key that is not used", f'{{"a": [NaN, -Inf, Infinity], "instances": [{ROW}]}}'),
    taken("nesting in a key that is not used", f'{{"a": {"[" * 500}{"]" * 500}, "instances": [{ROW}]}}'),
    taken("a colon in a text", f'{{"a": "b:c", "instances": [{ROW}]}}'),
    asked("the first of two columns counts", '{"inputs": {"x": [[1, 2]], "x": [[9, 9]]}}', {"outputs": [[4.0, 1.0]]}, source=RAPIDJSON),
    asked("the first of two named values counts", '{"instances": [{"x": [1, 2], "x": [1, 2]}]}', DONE, source=RAPIDJSON),
    refused("nothing", b"", "JSON Parse error: The document is empty"),
    refused("white space only", " \n", "JSON Parse error: The document is empty"),
    refused("a byte order mark only", b"\xef\xbb\xbf", "JSON Parse error: The document is empty"),
    refused("a zero byte only", b"\0", "JSON Parse error: The document is empty"),
    refused("a list", f"[{ROW}]", "Is not object"),
    refused("a number", "1", "Is not object"),
    refused("a text alone", '"instances"', "Is not object"),
    refused("null", "null", "Is not object"),
    refused("true", "true", "Is not object"),
    refused("no JSON", "instances"),
    refused("HTML", "<html></html>"),
    refused("text behind the document", f'{{"instances": [{ROW}]}} x'),
    refused("two documents", f'{{"instances": [{ROW}]}}{{"instances": [{ROW}]}}'),
    refused("a comma too many in a list", '{"instances": [[1, 2],]}'),
    refused("a comma too many in an object", f'{{"instances": [{ROW}],}}'),
    refused("a comma missing in a list", '{"instances": [[1 2]]}'),
    refused("a comma missing in an object", f'{{"a": 1 "instances": [{ROW}]}}'),
    refused("a colon missing", f'{{"instances" [{ROW}]}}'),
    refused("a key without quotes", f"{{instances: [{ROW}]}}"),
    refused("single quotes", f"{{'instances': [{ROW}]}}"),
    refused("a comment", f'{{/* rows */ "instances": [{ROW}]}}'),
    refused("a comment to the end of the line", f'{{"instances": [{ROW}]}} // rows'),
    refused("a bracket missing", '{"instances": [[1, 2]'),
    refused("a brace missing", '{"instances": [[1, 2]]'),
    refused("a bracket too many", '{"instances": [[1, 2]]]}'),
    refused("a quote missing", '{"instances'),
    refused("a number with a leading zero", '{"instances": [[01, 2]]}'),
    refused("a number with a plus", '{"instances": [[+1, 2]]}'),
    refused("a number without digits before its point", '{"instances": [[.5, 2]]}'),
    refused("a number without digits behind its point", '{"instances": [[1., 2]]}'),
    refused("a number without digits in its exponent", '{"instances": [[1e, 2]]}'),
    refused("a hexadecimal number", '{"instances": [[0x10, 2]]}'),
    refused("a number too large for a double", '{"instances": [[1e400, 2]]}'),
    refused("a lone minus", '{"instances": [[-, 2]]}'),
    refused("nan in small letters", '{"instances": [[nan, 2]]}'),
    refused("infinity in small letters", '{"instances": [[infinity, 2]]}'),
    refused("True of Python", '{"instances": [[True, 2]]}'),
    refused("None of Python", '{"instances": [[None, 2]]}'),
]  # fmt: skip
