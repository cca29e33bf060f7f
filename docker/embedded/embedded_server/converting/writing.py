"""Writes the files of an artefact: OpenVINO's model of the body, and TensorFlow's graph of front and tail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import openvino
import tensorflow as tf
from openvino.frontend import FrontEndManager
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.node_def_pb2 import NodeDef

from embedded_server.converting import workarounds
from embedded_server.converting.division import Division
from embedded_server.converting.facts import FLOATS
from embedded_server.execution import artefact
from embedded_server.execution.bodies import INPUT, compile_options
from embedded_server.graph.errors import CannotCompile
from embedded_server.graph.ways import node_of, reached, tensor_of

BODY_OUTPUT, FROM_BODY = "body_output", "from_body"


@dataclass(frozen=True)
class Parts:
    """A divided signature as graphs."""

    body: GraphDef
    body_inputs: Mapping[str, str]
    """The body's placeholder -> the tensor that it is given."""
    body_outputs: Mapping[str, str]
    """Tensor -> the body's tensor."""
    around: GraphDef | None
    tail: Mapping[str, str]
    """The placeholder in `around`, or a tensor of it -> the tensor that the tail is given there."""


def parts_of(division: Division) -> Parts:
    """The graphs of body and surroundings."""
    body_inputs = {f"{INPUT}_{n}:0": t.name for n, t in enumerate(division.given)}
    body_outputs = {t.name: f"{BODY_OUTPUT}_{n}:0" for n, t in enumerate(division.taken)}
    needs_around = bool(division.front or division.has_tail or division.front_checks)
    tail = {}
    taken = {t.name: f"{FROM_BODY}_{n}:0" for n, t in enumerate(division.taken)}
    for tensor in division.tail_given:
        tail[taken.get(tensor, tensor)] = tensor
    return Parts(
        body=_body(division, body_inputs, body_outputs),
        body_inputs=body_inputs,
        body_outputs=body_outputs,
        around=_around(division, taken) if needs_around else None,
        tail=tail,
    )


def _body(division: Division, given: Mapping[str, str], taken: Mapping[str, str]) -> GraphDef:
    """The body's operations, with a placeholder for each tensor that they are given."""
    whole = division.flat.graph_def
    placeholders = {tensor: node_of(own) for own, tensor in given.items()}
    nodes = {node.name: node for node in whole.node}
    constants = {
        node_of(r) for name in division.body for r in nodes[name].input if nodes[node_of(r)].op == "Const"
    }
    body = GraphDef(versions=whole.versions)
    for tensor in division.given:
        body.node.append(_placeholder(placeholders[tensor.name], tensor))
    for node in whole.node:
        if node.name not in division.body and node.name not in constants:
            continue
        copy = body.node.add()
        copy.CopyFrom(node)
        references = [r for r in node.input if not r.startswith("^")]
        del copy.input[:]
        copy.input.extend(placeholders.get(tensor_of(r), r) for r in references)
        if node.op == "Const" and node.attr["dtype"].type == tf.bfloat16.as_datatype_enum:
            _widen(copy, body.node.add())
    for tensor in division.taken:
        node = body.node.add(name=node_of(taken[tensor.name]), op="Identity")
        node.input.append(tensor.name)
        node.attr["T"].type = tensor.dtype.base_dtype.as_datatype_enum
    return body


def _widen(constant: NodeDef, cast: NodeDef) -> None:
    """Make a constant of bfloat16, which OpenVINO does not read, one of float32 that is cast."""
    name = constant.name
    value = tf.make_ndarray(constant.attr["value"].tensor).astype("float32")
    constant.name = f"{name}/float32"
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    constant.attr["dtype"].type = tf.float32.as_datatype_enum
    cast.name, cast.op = name, "Cast"
    cast.input.append(constant.name)
    cast.attr["SrcT"].type = tf.float32.as_datatype_enum
    cast.attr["DstT"].type = tf.bfloat16.as_datatype_enum


def _around(division: Division, taken: Mapping[str, str]) -> GraphDef:
    """What TensorFlow executes, with a placeholder for each tensor that comes from the body."""
    whole = division.flat.graph_def
    outside = GraphDef(versions=whole.versions, library=whole.library)
    for tensor in division.taken:
        outside.node.append(_placeholder(node_of(taken[tensor.name]), tensor))
    for node in whole.node:
        if node.name in division.body:
            continue
        copy = outside.node.add()
        copy.CopyFrom(node)
        kept = [r for r in node.input if not (r.startswith("^") and node_of(r) in division.body)]
        del copy.input[:]
        copy.input.extend(r if r.startswith("^") else taken.get(tensor_of(r), r) for r in kept)
    nodes = {node.name: node for node in outside.node}
    outputs = [t for t in division.flat.outputs.values() if node_of(t) in nodes]
    targets = [
        *division.front, *division.front_checks, *division.tail_checks, *division.flat.initializers,
        *outputs, *division.flat.inputs.values(), *taken.values(),
    ]  # fmt: skip
    needed = reached(
        {node_of(name) for name in targets}, lambda name: [node_of(r) for r in nodes[name].input]
    )
    around = GraphDef(versions=whole.versions, library=whole.library)
    around.node.extend(node for node in outside.node if node.name in needed)
    return around


def _without_weights(body: GraphDef) -> GraphDef:
    """The graph with zeros for constants of floats, which take no space when all are the same."""
    light = GraphDef()
    light.CopyFrom(body)
    floats = {dtype.as_datatype_enum for dtype in FLOATS}
    for node in light.node:
        if node.op == "Const" and node.attr["dtype"].type in floats:
            shape = node.attr["value"].tensor.tensor_shape
            zero = tf.make_tensor_proto(0, tf.dtypes.as_dtype(node.attr["dtype"].type))
            zero.tensor_shape.CopyFrom(shape)
            node.attr["value"].tensor.CopyFrom(zero)
    return light


def _placeholder(name: str, tensor: tf.Tensor) -> NodeDef:
    node = NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = tensor.dtype.base_dtype.as_datatype_enum
    node.attr["shape"].shape.CopyFrom(tensor.shape.as_proto())
    return node


def digest(division: Division, parts: Parts) -> str:
    """SHA-256 of all that a program is made of: graphs, and the names of inputs and outputs."""
    flat = division.flat
    names = (
        flat.inputs, flat.outputs, parts.body_inputs, parts.body_outputs, parts.tail,
        division.front, division.front_checks, division.tail_checks,
    )  # fmt: skip
    hashed = hashlib.sha256(json.dumps(names, sort_keys=True).encode())
    for graph in (parts.body, parts.around or GraphDef()):
        # The order of nodes says nothing, and differs from one freezing to the next.
        written = (
            part.SerializeToString(deterministic=True) for part in (*graph.node, *graph.library.function)
        )
        digests = sorted(hashlib.sha256(part).digest() for part in written)
        hashed.update(hashlib.sha256(b"".join(digests)).digest())
    return hashed.hexdigest()


def openvino_model(body: GraphDef, outputs: Iterable[str], folder: Path) -> openvino.Model:
    """The body as OpenVINO reads it. Raises CannotCompile."""
    frozen = folder / "frozen.pb"
    frozen.write_bytes(body.SerializeToString())
    try:
        # Not by convert_model, which reports its use over the network from a process of its own.
        frontend = FrontEndManager().load_by_framework("tf")
        read = frontend.load(str(frozen))
        read.override_all_outputs([read.get_place_by_tensor_name(name) for name in outputs])
        model = frontend.convert(read)
    except Exception as error:  # OpenVINO raises whatever it likes for what it does not know
        raise CannotCompile("OpenVINO cannot read it") from error
    finally:
        frozen.unlink()
    workarounds.apply(model)
    return model


def compiled(model: openvino.Model, precision: str) -> openvino.CompiledModel:
    """The model, compiled as the server compiles it. Raises CannotCompile."""
    try:
        options = compile_options(precision, "LATENCY")
        return openvino.Core().compile_model(model, artefact.DEVICE, options)
    except RuntimeError as error:
        raise CannotCompile("OpenVINO cannot compile it") from error


def store(
    division: Division,
    parts: Parts,
    model: openvino.Model,
    bounds: Mapping[str, Mapping[str, float]],
    output: Path,
    number: int,
) -> artefact.Program:
    """Write the files of one program, and say how it is executed."""
    body, around = output / f"body-{number}.xml", output / f"around-{number}.pb"
    sizes = output / f"sizes-{number}.pb"
    # Weights stay f32: narrower arithmetic is chosen when the model is compiled, not here.
    openvino.save_model(model, body, compress_to_fp16=False)
    if division.depends_on_sizes:
        sizes.write_bytes(_without_weights(parts.body).SerializeToString())
    if parts.around is not None:
        around.write_bytes(parts.around.SerializeToString())
    return artefact.Program(
        body=body.name,
        inputs=dict(division.flat.inputs),
        outputs=dict(division.flat.outputs),
        body_inputs=dict(parts.body_inputs),
        body_outputs=dict(parts.body_outputs),
        conditions={
            tensor.name: artefact.Condition(tuple(tensor.shape.as_list()), bounds[tensor.name])
            for tensor in division.given
        },
        sizes=sizes.name if division.depends_on_sizes else None,
        around=around.name if parts.around is not None else None,
        initializers=tuple(division.flat.initializers) if parts.around is not None else (),
        front=tuple(division.front),
        front_checks=tuple(division.front_checks),
        tail=dict(parts.tail),
        tail_checks=tuple(division.tail_checks),
        multiplications=division.multiplications,
        share=division.share,
    )
