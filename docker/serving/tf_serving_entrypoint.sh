#!/bin/sh
# The contract of TensorFlow Serving's own image, but with exec: the server itself gets the signals.
exec tensorflow_model_server --port=8500 --rest_api_port=8501 \
    --model_name="${MODEL_NAME}" --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
