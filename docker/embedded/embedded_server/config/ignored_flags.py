"""The flags of TensorFlow Serving that have no meaning here.

They are accepted, so that a command line made for TensorFlow Serving works, and a value that asks for
something else than this server does gets a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ignored:
    """A flag without a meaning here.

    holds: the value that this server follows anyway; its type is the flag's.
    why: ends the sentence "--NAME is ignored: ".
    """

    name: str
    holds: bool | int | float | str
    why: str


_NO_TFLITE = "TensorFlow Lite models are not served"
_NO_GPU = "models are executed on the CPU"

IGNORED = (
    Ignored("enable_profiler", False, "there is no profiler service"),
    Ignored("flush_filesystem_caches", True, "nothing is kept of files that were read"),
    Ignored("num_load_threads", 0, "versions are loaded one at a time, in a thread of its own"),
    Ignored("num_tflite_interpreters_per_pool", 1, _NO_TFLITE),
    Ignored("num_tflite_pools", 1, _NO_TFLITE),
    Ignored("num_unload_threads", 0, "versions are unloaded one at a time, in the thread that loads"),
    Ignored("per_process_gpu_memory_fraction", 0.0, _NO_GPU),
    Ignored("platform_config_file", "", "say by other flags what is in the file"),
    Ignored("prefer_tflite_model", False, f"{_NO_TFLITE}; saved_model.pb is"),
    Ignored("remove_unused_fields_from_bundle_metagraph", True, "only its signatures are kept"),
    Ignored("skip_initialize_tpu", True, _NO_GPU),
    Ignored("thread_pool_factory_config_file", "", "--tensorflow_intra_op_parallelism says how many threads"),
    Ignored("xla_cpu_compilation_enabled", True, "functions that ask for XLA are compiled by it"),
    Ignored("xla_gpu_compilation_enabled", False, _NO_GPU),
)


def notices(values: Any) -> Iterator[str]:
    """A sentence for each ignored flag that asks for something else. values: the parsed command line."""
    for flag in IGNORED:
        if getattr(values, flag.name) != flag.holds:
            yield f"--{flag.name} is ignored: {flag.why}"
