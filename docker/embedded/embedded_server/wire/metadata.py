"""The answers to status and metadata calls, as protobuf's JSON printer writes them in TensorFlow Serving.

There every field is printed, default or not, under its own name (model_servers/http_rest_api_util.cc,
ToJsonString), and 64-bit numbers are strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from embedded_server.execution.servable import Servable, VersionStatus


def status_document(versions: Sequence[VersionStatus]) -> dict[str, Any]:
    """GetModelStatusResponse."""
    return {
        "model_version_status": [
            {
                "version": str(version.version),
                "state": version.state,
                "status": {"error_code": version.error_code, "error_message": version.error_message},
            }
            for version in versions
        ]
    }


def metadata_document(servable: Servable) -> dict[str, Any]:
    """GetModelMetadataResponse with its one field, signature_def."""
    from google.protobuf.json_format import MessageToDict

    signatures = {
        name: MessageToDict(
            proto, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, proto in sorted(servable.backend.signature_defs.items())
    }
    return {
        "model_spec": {"name": servable.name, "signature_name": "", "version": str(servable.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
