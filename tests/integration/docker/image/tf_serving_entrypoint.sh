#!/bin/bash
# As TensorFlow Serving's own: it does not exec.
python3 /usr/bin/server.py --port=8500 --rest_api_port=8501 --model_name="${MODEL_NAME}" \
  --model_base_path="${MODEL_BASE_PATH}/${MODEL_NAME}" "$@"
