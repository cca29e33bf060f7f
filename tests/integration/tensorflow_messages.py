"""What TensorFlow and TensorFlow Serving's own classes make of messages; runs in the embedded environment.

Reads a JSON list of requests from stdin: base64 of a PredictRequest with one input. Writes for each what it
reads in it, and a PredictResponse with the same tensor in both of its forms; and a GetModelMetadataResponse
with what it says as JSON.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis.get_model_metadata_pb2 import GetModelMetadataResponse, SignatureDefMap
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


def packed(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def read(request: PredictRequest) -> dict[str, Any]:
    ((name, tensor),) = request.inputs.items()
    array = tf.make_ndarray(tensor)
    spec = request.model_spec
    answer = PredictResponse()
    answer.model_spec.name = "net"
    answer.outputs["values"].CopyFrom(tf.make_tensor_proto(array))
    answer.outputs["content"].CopyFrom(answer.outputs["values"])
    if array.dtype != object:
        filled = answer.outputs["content"]
        filled.Clear()
        filled.dtype, filled.tensor_content = tensor.dtype, array.tobytes()
        filled.tensor_shape.CopyFrom(tensor.tensor_shape)
    wide = array.astype(np.float64) if array.dtype == tf.bfloat16.as_numpy_dtype else array
    return {
        "spec": json_format.MessageToDict(spec),
        "name": name,
        "dtype": tf.dtypes.as_dtype(tensor.dtype).name,
        "shape": list(array.shape),
        "values": [one.decode() for one in array.ravel()] if array.dtype == object else wide.tolist(),
        "answer": packed(answer),
    }


def metadata() -> dict[str, Any]:
    signature = SignatureDef(method_name="tensorflow/serving/predict")
    for side, name, dtype, shape in (
        (signature.inputs, "image_bytes", tf.string, [None]),
        (signature.inputs, "any", tf.float32, None),
        (signature.outputs, "classes", tf.int64, [None, 5]),
    ):
        tensor = tf.TensorSpec(shape, dtype)
        side[name].name, side[name].dtype = f"{name}:0", tensor.dtype.as_datatype_enum
        side[name].tensor_shape.CopyFrom(tensor.shape.as_proto())
    answer = GetModelMetadataResponse()
    answer.model_spec.name, answer.model_spec.version.value = "net", 1538687457
    answer.metadata["signature_def"].Pack(SignatureDefMap(signature_def={"serving_default": signature}))
    said = json_format.MessageToDict(signature, always_print_fields_with_no_presence=True)
    return {"answer": packed(answer), "says": said}


def main() -> None:
    requests = [PredictRequest.FromString(base64.b64decode(one)) for one in json.load(sys.stdin)]
    json.dump({"read": [read(request) for request in requests], "metadata": metadata()}, sys.stdout)


if __name__ == "__main__":
    main()
