"""Makes a version on disk into a servable: loads it, and warms it up."""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import logging
import time
from dataclasses import replace
from pathlib import Path

from embedded_server.common.errors import Internal
from embedded_server.common.metrics import Metrics
from embedded_server.config.batching_parameters import BatchingParameters, read_batching_parameters
from embedded_server.config.flags import Flags
from embedded_server.config.model_config import ModelConfig
from embedded_server.execution.backend import Backend
from embedded_server.execution.batching import BatchingBackend
from embedded_server.execution.servable import Servable

BATCHING_FILE = "batching_params.pbtxt"
"""In a version's folder: its BatchingParameters, with --enable_per_model_batching_parameters."""

_log = logging.getLogger(__name__)


def prepare(flags: Flags) -> None:
    """Import all that loading needs: it takes seconds, and no load should wait for it.

    What was imported is then hidden from the garbage collector, which otherwise looks through TensorFlow's
    300,000 objects each time, for 0.1 s in which nothing is answered.

    Raises StartError for settings that no load could use.
    """
    importlib.import_module(f"embedded_server.execution.{flags.backend}_backend")
    importlib.import_module("embedded_server.lifecycle.warmup")
    if flags.backend == "tensorflow":
        from embedded_server.config.session_config import session_config

        session_config(flags)
    gc.collect()
    gc.freeze()


def artefact_folder(model: ModelConfig, version: int) -> Path:
    """Where the optimized artefact of a version is."""
    return model.optimized_base_path / str(version)


def load_servable(flags: Flags, metrics: Metrics, model: ModelConfig, version: int, folder: Path) -> Servable:
    """Load a version and warm it up.

    metrics: where that is counted.

    Raises StartError where it cannot be loaded, ServingError where a recorded warm-up request fails.
    """
    began = time.monotonic()
    _log.info("Loading servable version {name: %s version: %d} from %s", model.name, version, folder)
    try:
        batching = _batching(flags, folder)
        backend = _load_backend(flags, metrics, model, version, folder)
        if batching is not None:
            backend = BatchingBackend(backend, batching, flags.rest_api_timeout)
        servable = Servable(model.name, version, backend)
    except Exception:
        metrics.loaded(str(folder), time.monotonic() - began, good=False)
        raise
    loaded = time.monotonic()
    metrics.loaded(str(folder), loaded - began, good=True)
    if flags.enable_model_warmup:
        from embedded_server.lifecycle.warmup import warm_up

        status = "OK"
        try:
            sizes = batching.sizes_to_warm_up if batching is not None else ()
            warm_up(servable, folder, flags.num_request_iterations_for_warmup, sizes)
        except Exception as error:
            servable.backend.close()
            status = getattr(error, "code", Internal.code)
            raise
        finally:
            metrics.warmed_up(str(folder), time.monotonic() - loaded, status)
    _log.info(
        "Successfully loaded servable version {name: %s version: %d} in %.1f s, and %.1f s of warm-up",
        model.name,
        version,
        loaded - began,
        time.monotonic() - loaded,
    )
    return servable


def _batching(flags: Flags, folder: Path) -> BatchingParameters | None:
    """How requests for a version are batched; None for not at all. Raises StartError for a bad file of it."""
    if flags.batching is None or not flags.per_model_batching:
        return flags.batching
    file = folder / BATCHING_FILE
    if not file.exists():
        return None
    parameters = read_batching_parameters(file, "--enable_per_model_batching_parameters:")
    return replace(parameters, num_batch_threads=flags.batching.num_batch_threads)


def _load_backend(flags: Flags, metrics: Metrics, model: ModelConfig, version: int, folder: Path) -> Backend:
    """What executes a version. Raises StartError where it cannot be loaded."""
    # Imported here: each takes seconds, and a wrong flag should not have to wait for that.
    if flags.backend == "openvino":
        from embedded_server.execution.openvino_backend import OpenVinoBackend

        return OpenVinoBackend.load(
            folder,
            artefact_folder(model, version),
            flags.precision,
            intra_op_parallelism=flags.intra_op_parallelism,
            inter_op_parallelism=flags.inter_op_parallelism,
            timeout=flags.rest_api_timeout,
            handed_over=functools.partial(metrics.handed_over, model.name),
            postpones=True,
        )
    from embedded_server.config.session_config import session_config
    from embedded_server.execution.tensorflow_backend import TensorFlowBackend

    return TensorFlowBackend.load(
        folder,
        intra_op_parallelism=flags.intra_op_parallelism,
        inter_op_parallelism=flags.inter_op_parallelism,
        timeout=flags.rest_api_timeout,
        tags=flags.saved_model_tags,
        config=session_config(flags),
    )


def unload(servable: Servable) -> None:
    """Free all that a servable holds; it is not used any more."""
    servable.backend.close()
    gc.collect()  # graphs refer to themselves
    # glibc keeps freed memory for itself, as TensorFlow Serving's allocator would, which is told to let go
    # too (MallocExtension_ReleaseToSystem). Other libraries of C have no such call.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    _log.info("Done unloading servable version {name: %s version: %d}", servable.name, servable.version)
