"""What flags say of TensorFlow's sessions, except for the numbers of threads."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from embedded_server.config.config_files import read_message
from embedded_server.config.flags import Flags

_FILE_FLAG = "--tensorflow_session_config_file"


def session_config(flags: Flags) -> tf.compat.v1.ConfigProto:
    """The configuration of a session. Raises StartError for a bad --tensorflow_session_config_file."""
    config = tf.compat.v1.ConfigProto()
    if flags.tensorflow_session_config_file is not None:
        read_message(_FILE_FLAG, flags.tensorflow_session_config_file, config)
    if flags.mixed_precision:
        options = config.graph_options.rewrite_options
        options.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    return config
