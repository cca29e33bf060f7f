"""Speaks to any server of TensorFlow Serving's contract, over REST and gRPC.

`rest` and `grpc` send one request and return its answer. `wire`, `rest_wire` and `grpc_wire` send many, with
nothing in between, for the load generator. `signature` reads a model's metadata, `inputs` makes requests
from it. A new protocol belongs here: its wire, and its single requests. May import: common.
"""
