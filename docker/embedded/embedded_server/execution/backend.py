"""The protocol of what executes a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt

from embedded_server.execution.signature import Signature

Array = npt.NDArray[Any]


class Backend(Protocol):
    """A loaded model. All methods may be called from several threads at once."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Every signature of the SavedModel, by name."""

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        """The same as SignatureDef messages, for the metadata."""

    @property
    def runtime(self) -> str:
        """What executes it, as metrics name it: TF1 (a TensorFlow session, TensorFlow Serving's own word) or
        OpenVINO."""

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Execute a signature.

        inputs: an array for each input of the signature, of its numpy type (strings: object arrays of
            bytes). Shapes are checked by the model itself, as TensorFlow Serving leaves it.
        outputs: the outputs wanted; None for all of them.

        Returns an array for each output, strings as object arrays of bytes.
        Raises errors.ServingError: InvalidArgument where the input is to blame, Internal where not.
        """

    def merges(self, signature: str, inputs: Mapping[str, Array]) -> bool:
        """Whether a request may be executed together with others, so that they are not slower for it."""

    def close(self) -> None:
        """Free all that it holds. Called once, when nothing is executed any more or ever will be."""
