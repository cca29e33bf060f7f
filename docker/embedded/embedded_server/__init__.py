"""The embedded server: TensorFlow Serving's REST and gRPC contracts as a process of its own.

Run it as ``python -m embedded_server --rest_api_port=8501 --model_name=resnet --model_base_path=...``.

flags           what the command line says; command_line parses it, with TensorFlow Serving's flag names
                and, in ignored_flags, those without a meaning here; config_files reads messages
errors          what can go wrong, and the HTTP status of each
signature       what a signature takes and gives, without TensorFlow
backend         the protocol of what executes a model; tensorflow_backend and openvino_backend do
batching        requests in flight executed together, by batching_parameters
servable        the loaded models, and finding one by name, version or label
versions        versions on disk, and the policies that choose among them
model_config    which models are served: by the flags, or by a file
manager         loads and unloads versions as they come and go
managed         a version that the manager looks after
loading         makes a version on disk into a servable
warmup          executes a model before anybody asks it
inference       predict, classify and regress on arrays: what REST and gRPC do alike
parsing         the JSON text of a request
decoding        JSON to arrays
examples        JSON to tf.Examples
encoding        arrays to JSON
tensors         TensorProto to arrays and back
messages        TensorFlow Serving's messages, executed
metadata        the answers to status and metadata calls
metrics         what is counted, for Prometheus; monitoring says where that is read
rest            the HTTP interface
workers         the threads that execute what comes over it
grpc_api        the gRPC interface; grpc_options: what flags say of it, tls and unix_socket among them
serving         sockets, signals, and the way out
saved_model     loads a SavedModel into a session; session_config: its settings, by flags
surroundings    what TensorFlow executes of an optimized signature; bodies: what OpenVINO does
sizes           which sizes of its inputs a body takes
standby         the whole model by TensorFlow, for requests that OpenVINO cannot answer alike
artefact        the optimized artefact on disk
convert         makes it: a program of its own, by what is in converting; graphs walks through graphs
prove           compares it with TensorFlow: a program of its own, by what is in proving
seeded          makes the example model with seeded weights: a program of its own
"""

import os

# Hides TensorFlow's notes (I) and warnings (W), not its errors; has to be set before the import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
