"""Loads a SavedModel as the server does: a Session, and functions for what a Session cannot execute.

`tensorflow_backend` serves from what this module loads, and the converter takes its graphs from it, so a
model loads in both or in neither.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import loader_impl

from embedded_server.common import errors
from embedded_server.graph.ways import reached

SERVE_TAGS = ("serve",)
"""The tags of the MetaGraph that TensorFlow Serving loads by default: tf.saved_model.SERVING."""
_SAVED_MODEL = "saved_model.pb"


@dataclass(frozen=True)
class Loaded:
    """A SavedModel in memory."""

    session: tf.compat.v1.Session
    signature_defs: Mapping[str, Any]
    """SignatureDef messages, by name."""
    functions: Mapping[str, Any]
    """The signatures that the session cannot execute, as functions of tf.saved_model.load."""
    root: Any = None
    """What keeps the variables of the functions alive."""

    def close(self) -> None:
        """Free the session and its variables."""
        self.session.close()


def load(
    version_folder: Path, config: tf.compat.v1.ConfigProto, tags: Collection[str] = SERVE_TAGS
) -> Loaded:
    """Load `version_folder`, which holds a saved_model.pb. Raises errors.StartError.

    tags: those of the MetaGraph to load; it has these and no others.
    """
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, list(tags), str(version_folder))
        signature_defs = dict(meta_graph.signature_def)
        lacking = _signatures_without_variables(session, signature_defs)
        functions, loaded = {}, None
        if lacking:
            loaded = _load_functions(version_folder, tags)
            functions = {name: loaded.signatures[name] for name in lacking if name in loaded.signatures}
    except Exception as error:  # whatever a damaged or foreign file makes TensorFlow raise
        session.close()
        raise unloadable(version_folder, error) from error
    return Loaded(session, signature_defs, functions, loaded)


def unloadable(version_folder: Path, error: Exception) -> errors.StartError:
    """The error for a SavedModel that cannot be loaded, with all that TensorFlow says of the reason."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return errors.StartError(f"cannot load the SavedModel in {version_folder}: {reason}")


def read_signature_defs(version_folder: Path) -> dict[str, Any]:
    """The SignatureDef messages of a SavedModel, without loading it. Raises errors.StartError."""
    try:
        saved_model = loader_impl.parse_saved_model(str(version_folder))
    except Exception as error:
        raise unloadable(version_folder, error) from error
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(SERVE_TAGS):
            return dict(meta_graph.signature_def)
    raise errors.StartError(
        f"cannot load the SavedModel in {version_folder}: nothing in it has the tag serve"
    )


def _load_functions(version_folder: Path, tags: Collection[str]) -> Any:
    try:
        return tf.saved_model.load(str(version_folder), tags=list(tags))
    except AttributeError as error:
        if "add_slot" not in str(error):
            raise
        with _without_slots(version_folder) as folder:
            return tf.saved_model.load(str(folder), tags=list(tags))


@contextlib.contextmanager
def _without_slots(version_folder: Path) -> Iterator[Path]:
    """A copy of the SavedModel that does not mention the slot variables of an optimizer.

    TensorFlow cannot restore those of an optimizer class that it does not know, and no signature reads them.
    """
    saved_model = saved_model_pb2.SavedModel.FromString((version_folder / _SAVED_MODEL).read_bytes())
    for meta_graph in saved_model.meta_graphs:
        for node in meta_graph.object_graph_def.nodes:
            del node.slot_variables[:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in version_folder.iterdir():
            if path.name not in (_SAVED_MODEL, "fingerprint.pb"):
                (folder / path.name).symlink_to(path.resolve())
        (folder / _SAVED_MODEL).write_bytes(saved_model.SerializeToString())
        yield folder


def _signatures_without_variables(
    session: tf.compat.v1.Session, signature_defs: Mapping[str, Any]
) -> list[str]:
    """The signatures that read a variable which loading into the session left without a value."""
    graph = session.graph
    handles = [operation for operation in graph.get_operations() if operation.type == "VarHandleOp"]
    if not handles:
        return []
    with graph.as_default():
        checks = [tf.raw_ops.VarIsInitializedOp(resource=handle.outputs[0]) for handle in handles]
    present = session.run(checks)
    lacking = {handle.name for handle, has_value in zip(handles, present, strict=True) if not has_value}
    if not lacking:
        return []
    return [
        name
        for name, proto in signature_defs.items()
        if proto.inputs and lacking & _needed(graph, [info.name for info in proto.outputs.values()])
    ]


def _needed(graph: tf.Graph, tensors: Sequence[str]) -> set[str]:
    """The names of all operations that are executed for the tensors."""

    def before(name: str) -> list[str]:
        operation = graph.get_operation_by_name(name)
        return [
            *(tensor.op.name for tensor in operation.inputs),
            *(other.name for other in operation.control_inputs),
        ]

    return reached([graph.get_tensor_by_name(name).op.name for name in tensors if name], before)
