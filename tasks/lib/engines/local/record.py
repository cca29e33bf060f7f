"""What is on disk about a server: .state/servers/ID.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from tasks.lib.common.processes import Identity
from tasks.lib.common.variants import Variant
from tasks.lib.engines.base import Server


@dataclass(frozen=True)
class Record:
    """What is on disk about a server."""

    server: Server
    state: str
    starter: Identity
    """The call of the suite that waits for it to answer, or once did."""
    process: Identity | None
    """None until it is known to have been started."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Raises ValueError, KeyError or TypeError for what `to_json` did not write."""
        fields = json.loads(text)
        server = dict(fields["server"])
        variant = dict(server["variant"])
        variant["arguments"] = tuple(variant.get("arguments", ()))  # an older record has none
        return cls(
            server=Server(**{**server, "variant": Variant(**variant)}),
            state=fields["state"],
            starter=Identity(**fields["starter"]),
            process=Identity(**fields["process"]) if fields["process"] else None,
        )
