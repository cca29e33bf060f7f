#!/bin/sh
# The contract of TensorFlow Serving's own image; the container's published ports decide who may connect.
exec /opt/embedded/bin/python -m embedded_server --grpc_host=0.0.0.0 --port=8500 \
    --rest_api_host=0.0.0.0 --rest_api_port=8501 \
    --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
