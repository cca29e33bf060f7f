"""The embedded server: TensorFlow Serving's REST and gRPC contracts as a process of its own.

Run it as ``python -m embedded_server --rest_api_port=8501 --model_name=resnet --model_base_path=...``.
The other programs are convert, prove, make_samples, export, efficientnet and seeded:
``python -m embedded_server.convert``.

A package may import those below it (pyproject.toml holds this as an import-linter contract):

    serving                       sockets, signals, the way out
    http  grpc                    the two interfaces
    lifecycle                     versions on disk: loaded, warmed up, unloaded
    samples                       sample requests that fit a model (make_samples)
    proving                       the proof that optimized answers like stock (prove)
    converting  wire              front, body and tail (convert); JSON and messages to arrays and back
    execution                     signatures executed on arrays, by TensorFlow or OpenVINO
    config  graph                 flags and files; SavedModels as graphs
    common                        errors, limits, CPUs, metrics
    exporting                     looks at Keras files (export); imports nothing of the others
"""

import os

# Hides TensorFlow's notes (I) and warnings (W), not its errors; has to be set before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
