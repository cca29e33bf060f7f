"""How TensorFlow executes a SavedModel: what the flags say of its Session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedded_server.errors import StartError
from embedded_server.text_messages import read_text

if TYPE_CHECKING:
    from tensorflow.core.protobuf.config_pb2 import ConfigProto

SERVE_TAG = "serve"
"""tf.saved_model.SERVING, the tag that TensorFlow Serving loads."""


@dataclass(frozen=True)
class SessionOptions:
    """Numbers of threads are TensorFlow's own where they are 0."""

    within: int = 0
    """Threads within an operation."""
    between: int = 0
    """Operations at once."""
    tags: tuple[str, ...] = (SERVE_TAG,)
    """Of the graph in the SavedModel."""
    bfloat16: bool = False
    """Whether oneDNN may compute in bfloat16."""
    config_file: str | None = None
    """A ConfigProto as text, of which threads and precision are replaced by what is said here."""

    def config(self) -> ConfigProto:
        """For a Session. Raises StartError for a bad file."""
        from google.protobuf import text_format
        from tensorflow.core.protobuf.config_pb2 import ConfigProto
        from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

        config = ConfigProto()
        if self.config_file is not None:
            flag = "--tensorflow_session_config_file"
            try:
                text_format.Parse(read_text(flag, self.config_file), config)
            except text_format.ParseError as error:
                raise StartError(f"{flag} {self.config_file} is no ConfigProto: {error}") from error
        if self.within:
            config.intra_op_parallelism_threads = self.within
        if self.between:
            config.inter_op_parallelism_threads = self.between
        if self.bfloat16:
            config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = RewriterConfig.ON
        return config
