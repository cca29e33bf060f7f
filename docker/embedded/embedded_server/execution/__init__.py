"""Executes signatures on arrays: with TensorFlow (stock), or with TensorFlow and OpenVINO (optimized).

`backend` is the protocol, `servable` holds the loaded models, `batching` executes requests together.
`standby` and `shapes` find the requests that OpenVINO cannot answer as TensorFlow does.
"""
