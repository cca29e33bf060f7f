"""Turns a SavedModel into an artefact that OpenVINO executes.

Each signature is frozen and cut in two. The *front* is what OpenVINO has no operations for: strings,
image decoding, and the loop that maps over a batch of photos. TensorFlow goes on executing
it, so pixels stay the same bit for bit. The *body* is all that lies behind it, and OpenVINO compiles
it. A model that takes numbers has no front.

    python -m embedded_server.convert --model VERSION_FOLDER --output DIR --fingerprint TEXT
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openvino
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from embedded_server import artefact
from embedded_server.graphs import reached

FRONT_PREFIXES = (
    "AsString", "CropAndResize", "Decode", "Encode", "ExtractJpegShape", "Parse", "Ragged", "ReadFile",
    "Regex", "StaticRegex", "String", "Substr", "TensorArray", "TensorList", "Unicode",
)  # fmt: skip
FRONT_OPS = frozenset({
    "Enter", "RefEnter", "Exit", "RefExit", "NextIteration", "RefNextIteration", "LoopCond", "Merge",
    "RefMerge", "Switch", "RefSwitch", "While", "StatelessWhile", "If", "StatelessIf", "Case",
    "StatelessCase", "EagerPyFunc", "PyFunc", "PyFuncStateless",
})  # fmt: skip
"""Operations that stay with TensorFlow, with everything that leads to them."""
TABLES = ("HashTable", "LookupTable", "MutableHashTable", "MutableDenseHashTable")
"""Their contents are loaded when a SavedModel is, and do not come along when it is frozen."""


PRECISIONS = {"FP32": "f32", "BF16": "bf16"}
"""OpenVINO's names of number formats, and this suite's."""


class CannotConvert(Exception):
    """This signature cannot be executed by OpenVINO; the message says why."""


@dataclass(frozen=True)
class Frozen:
    """A signature as one flat graph without variables."""

    graph: tf.Graph
    inputs: Mapping[str, tf.Tensor]
    outputs: Mapping[str, tf.Tensor]


@dataclass(frozen=True)
class Halves:
    """A frozen graph after the cut. The tensors are named as in `artefact.Program`."""

    body: GraphDef
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    front: GraphDef | None
    front_inputs: Mapping[str, str]
    crossing: Mapping[str, str]


def freeze(function: Any) -> Frozen:
    """Turn a signature's variables into constants and its control flow into plain nodes.

    Raises CannotConvert for what would be lost on the way.
    """
    graph_def = function.graph.as_graph_def()
    nested = [node for body in graph_def.library.function for node in body.node_def]
    if any(node.op.startswith(TABLES) for node in (*graph_def.node, *nested)):
        raise CannotConvert("it looks words up in a table")
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=True)
    return Frozen(
        frozen.graph,
        # The signature's own order of arguments; TensorFlow offers it under no public name.
        dict(zip(function._arg_keywords, frozen.inputs, strict=True)),
        # A dict of outputs is flattened in the order of its sorted names.
        dict(zip(sorted(function.structured_outputs), frozen.outputs, strict=True)),
    )


def cut(frozen: Frozen) -> Halves:
    """Divide the graph behind the last operation that OpenVINO has not.

    Raises CannotConvert if that leaves nothing worth compiling.
    """
    graph_def = frozen.graph.as_graph_def()
    nodes = {node.name: node for node in graph_def.node}
    fed = {tensor.op.name for tensor in frozen.inputs.values()}
    needed = _ancestors(nodes, [tensor.op.name for tensor in frozen.outputs.values()])
    front = _ancestors(nodes, [name for name in needed if _stays(nodes[name])])
    body = needed - front
    for output, tensor in frozen.outputs.items():
        if tensor.op.name in front:
            raise CannotConvert(
                f"its output {output!r} comes from {nodes[tensor.op.name].op}, which OpenVINO has not"
            )
    if not any(nodes[name].op in WORTHWHILE for name in body):
        raise CannotConvert("no convolution or matrix product lies behind its strings, tables and loops")

    # What does not depend on the input, such as a shared constant, is given to both halves.
    varying = _descendants(nodes, needed, fed)
    wanted = {reference for name in body for reference in nodes[name].input if not reference.startswith("^")}
    shared = _ancestors(nodes, [n for n in map(_node, wanted) if n in front and n not in varying])
    shared = {name for name in shared if not _stays(nodes[name])}
    tensors = [
        frozen.graph.get_tensor_by_name(_tensor(reference))
        for reference in sorted(wanted)
        if _node(reference) in front - shared
    ]
    for tensor in tensors:
        if tensor.dtype in (tf.string, tf.variant, tf.resource):
            raise CannotConvert(f"{tensor.name} would have to cross the cut, and is {tensor.dtype.name}")

    placeholders = {tensor.name: f"cut_{n}" for n, tensor in enumerate(tensors)}
    return Halves(
        body=_body(graph_def, body | shared, tensors, placeholders),
        inputs={tensor.name: name for name, tensor in frozen.inputs.items() if tensor.op.name in body},
        outputs={name: tensor.name for name, tensor in frozen.outputs.items()},
        front=_subgraph(graph_def, _ancestors(nodes, [t.op.name for t in tensors])) if tensors else None,
        front_inputs={name: t.name for name, t in frozen.inputs.items() if t.op.name in front}
        if tensors
        else {},
        crossing={f"{placeholders[tensor.name]}:0": tensor.name for tensor in tensors},
    )


def _body(
    graph_def: GraphDef, names: set[str], crossing: Sequence[tf.Tensor], placeholders: Mapping[str, str]
) -> GraphDef:
    """The nodes called `names`, with a placeholder for each crossing tensor."""
    body = _subgraph(graph_def, names)
    for node in body.node:
        kept = [r for r in node.input if not r.startswith("^") or r[1:] in names]
        del node.input[:]
        node.input.extend(placeholders.get(_tensor(r), r) for r in kept)
    body.node.extend(_placeholder(placeholders[tensor.name], tensor) for tensor in crossing)
    return body


def _subgraph(graph_def: GraphDef, names: set[str]) -> GraphDef:
    subgraph = GraphDef(versions=graph_def.versions, library=graph_def.library)
    subgraph.node.extend(node for node in graph_def.node if node.name in names)
    return subgraph


WORTHWHILE = frozenset(
    {"Conv2D", "DepthwiseConv2dNative", "Conv3D", "MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum"}
)
"""A body without any of these has no arithmetic that is worth handing over."""


def _stays(node: NodeDef) -> bool:
    if node.op == "Placeholder":
        return node.attr["dtype"].type == tf.string.as_datatype_enum
    return node.op in FRONT_OPS or node.op.startswith(FRONT_PREFIXES)


def _node(reference: str) -> str:
    """The node that an input such as "^a", "a:1" or "a" refers to."""
    return reference.lstrip("^").partition(":")[0]


def _tensor(reference: str) -> str:
    return reference if ":" in reference else f"{reference}:0"


def _ancestors(nodes: Mapping[str, NodeDef], names: Iterable[str]) -> set[str]:
    """`names` and every node that leads to one of them."""
    return reached(names, lambda name: (_node(reference) for reference in nodes[name].input))


def _descendants(nodes: Mapping[str, NodeDef], among: set[str], names: Iterable[str]) -> set[str]:
    """`names` and every node of `among` that one of them leads to."""
    users: dict[str, list[str]] = {}
    for name in among:
        for reference in nodes[name].input:
            users.setdefault(_node(reference), []).append(name)
    return reached(names, lambda name: users.get(name, ()))


def _placeholder(name: str, tensor: tf.Tensor) -> NodeDef:
    node = NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = tensor.dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())
    return node


def convert(model: Path, output: Path, fingerprint: str) -> artefact.Manifest:
    """Convert every signature of the SavedModel in `model` that can be, and write the artefact.

    `output` must not exist yet. Raises CannotConvert if no signature can be converted.
    """
    output.mkdir(parents=True)
    loaded = tf.saved_model.load(str(model))
    programs: dict[str, artefact.Program] = {}
    unconverted: dict[str, str] = {}
    known: dict[str, artefact.Program] = {}
    for name, function in sorted(loaded.signatures.items()):
        try:
            halves = cut(freeze(function))
            # Models often offer one computation under two names: it is stored and compiled once.
            key = _digest(halves)
            if key not in known:
                known[key] = _store(halves, output, len(known))
            programs[name] = known[key]
        except CannotConvert as error:
            unconverted[name] = str(error)
        except (
            Exception
        ) as error:  # OpenVINO and TensorFlow raise whatever they like for what they do not know.
            unconverted[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if not programs:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unconverted.items())
        raise CannotConvert(reasons or "it has no signatures")
    files = {path.name: artefact.file_digest(path) for path in sorted(output.iterdir())}
    manifest = artefact.Manifest(fingerprint, programs, unconverted, files)
    artefact.write(output, manifest)
    return manifest


def _digest(halves: Halves) -> str:
    """SHA-256 of all that a program is made of.

    The body alone would not do: behind strings it begins at cut_0 whatever leads there, and it does not
    know what clients call the inputs and outputs.
    """
    names = (halves.inputs, halves.outputs, halves.front_inputs, halves.crossing)
    digest = hashlib.sha256(json.dumps(names, sort_keys=True).encode())
    for graph in (halves.body, halves.front or GraphDef()):
        # The order of nodes says nothing, and differs from one freezing to the next.
        parts = (*graph.node, *graph.library.function)
        written = (part.SerializeToString(deterministic=True) for part in parts)
        digests = sorted(hashlib.sha256(part).digest() for part in written)
        digest.update(hashlib.sha256(b"".join(digests)).digest())
    return digest.hexdigest()


def _store(halves: Halves, output: Path, number: int) -> artefact.Program:
    """Write the files of one program."""
    body, front = output / f"body-{number}.xml", output / f"front-{number}.pb"
    frozen = output / "frozen.pb"
    frozen.write_bytes(halves.body.SerializeToString())
    try:
        model = openvino.convert_model(frozen, output=list(halves.outputs.values()))
        # What it cannot compile, such as an input whose rank is unknown, shall not take the other
        # signatures down when the server loads.
        openvino.Core().compile_model(model, artefact.DEVICE)
        # Weights stay f32: narrower arithmetic is chosen when the model is compiled, not here.
        openvino.save_model(model, body, compress_to_fp16=False)
    finally:
        frozen.unlink()
    if halves.front is not None:
        front.write_bytes(halves.front.SerializeToString())
    return artefact.Program(
        body=body.name,
        inputs=dict(halves.inputs),
        outputs={name: _source(halves.body, tensor) for name, tensor in halves.outputs.items()},
        front=front.name if halves.front is not None else None,
        front_inputs=dict(halves.front_inputs),
        crossing=dict(halves.crossing),
    )


def _source(body: GraphDef, tensor: str) -> str:
    """What OpenVINO calls an output: one that is an input as it is keeps the input's name only."""
    nodes = {node.name: node for node in body.node}
    node = nodes[_node(tensor)]
    while node.op == "Identity":
        node = nodes[_node(node.input[0])]
    return f"{node.name}:0" if node.op == "Placeholder" else tensor


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded_server.convert")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--fingerprint", required=True)
    flags = parser.parse_args(argv)
    try:
        convert(flags.model, flags.output, flags.fingerprint)
    except CannotConvert as error:
        print(f"OpenVINO cannot execute this model: {error}", file=sys.stderr)
        return 1
    # What this CPU computes natively: the precisions worth measuring.
    capabilities = openvino.Core().get_property(artefact.DEVICE, "OPTIMIZATION_CAPABILITIES")
    print(" ".join(PRECISIONS[name] for name in capabilities if name in PRECISIONS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
