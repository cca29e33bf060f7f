"""The embedded server: TensorFlow Serving's REST contract as a process of its own.

Run it as ``python -m embedded_server --rest_api_port=8501 --model_name=resnet --model_base_path=...``.

flags           the command line, with TensorFlow Serving's flag names
errors          what can go wrong, and the HTTP status of each
signature       what a signature takes and gives, without TensorFlow
backend         the protocol of what executes a model; tensorflow_backend and openvino_backend do
servable        versions on disk, the loaded model, and finding it by name
codec           JSON to arrays and back
metadata        the answers to status and metadata calls
rest            the HTTP interface (ASGI)
serving         sockets, signals, and the way out
artefact        the optimized artefact on disk
convert         makes it: a program of its own
seeded          makes the example model with seeded weights: a program of its own
"""

import os

# Hides TensorFlow's notes (I) and warnings (W), not its errors; has to be set before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
