"""Requests and what TensorFlow Serving answers them with: a table, run against both backends.

Each case names what it was read in: a file of tensorflow/serving (at 2.20, or the newest version that could be
read) or its guide to the REST API (api_rest.md). What is expected follows from there, and not from this server.
"""

from __future__ import annotations

from contract import classifying, errors, forms, grpc_requests, numbers, paths, syntax, texts

REST = [
    case for module in (numbers, forms, texts, syntax, classifying, errors, paths) for case in module.CASES
]
GRPC = grpc_requests.CASES
