"""Stand-ins for the converter, the proof and the servers of a build."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tasks.lib.client.inputs import Given
from tasks.lib.common.settings import Settings
from tasks.lib.embedded.environment import Ended
from tasks.lib.measure.stats import Interval
from tasks.lib.measure.verdict import Comparison
from tasks.lib.models import artefact, samples
from tasks.lib.models.samples import Samples
from tasks.lib.models.store import Model
from tasks.lib.optimize.against_stock import Observed
from tasks.lib.optimize.candidates import Candidate, Group, Memory

FINE = {"requests": 57, "difference": 1e-6, "problem": None}
FAR = {"requests": 9, "difference": 0.3, "problem": "'y' differs by 0.3, and 0.05 is allowed (3 rows)"}


@dataclass
class Workshop:
    """What the programs and servers of a build do, and what they were asked."""

    folder: Path
    programs: dict[str, Any] = field(
        default_factory=lambda: {
            "serving_default": {"body": "body-0.xml", "share": 0.99, "multiplications": 9},
            "predict": {"body": "body-0.xml", "share": 0.99, "multiplications": 9},
        }
    )
    unconverted: dict[str, str] = field(default_factory=dict)
    native: str = "f32 bf16"
    converting: tuple[int, str] = (0, "")
    """Exit status and stderr of the converter."""
    proving: tuple[int, str] = (0, "")
    found: dict[str, Mapping[str, Any]] = field(default_factory=lambda: {"f32": FINE, "bf16": FINE})
    """What the proof finds in each precision, for every signature."""
    ratios: dict[str, float] = field(default_factory=lambda: {"f32": 2.0, "bf16": 4.0})
    ran: list[str] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    """Of the proof."""
    requests: str = ""
    """What was in its file."""
    served: dict[str, Any] = field(default_factory=dict)
    """What is accepted while servers are up, by precision."""
    given: Given | None = None
    made: bytes = b""
    """What make_samples writes."""

    def execute(
        self, settings: Settings, module: str, args: Sequence[str], label: str, about: str = ""
    ) -> Ended:
        flags = dict(word.removeprefix("--").split("=", 1) for word in args)
        name = module.removeprefix("embedded_server.")
        if name == "make_samples":
            self.make_samples(flags)
            return Ended(0, "", self.folder / "none.log")
        self.ran.append(name)
        log = self.folder / f"{name}.log"
        status, text = self.converting if name == "convert" else self.proving
        log.write_text(text)
        if status:
            return Ended(status, "", log)
        return Ended(0, self.convert(flags) if name == "convert" else self.prove(flags), log)

    def convert(self, flags: Mapping[str, str]) -> str:
        output = Path(flags["output"])
        output.mkdir()
        manifest = {
            "format": 2,
            "fingerprint": flags["fingerprint"],
            "programs": self.programs,
            "unconverted": self.unconverted,
            "files": {},
        }
        (output / artefact.MANIFEST).write_text(json.dumps(manifest))
        return f"{self.native}\n"

    def make_samples(self, flags: Mapping[str, str]) -> None:
        output = Path(flags["output"])
        output.mkdir()
        (output / samples.REQUESTS).write_bytes(self.made)
        about = {
            "format": samples.FORMAT,
            "fingerprint": flags["fingerprint"],
            "requests": hashlib.sha256(self.made).hexdigest(),
            "signatures": {},
        }
        (output / samples.ABOUT).write_text(json.dumps(about))

    def prove(self, flags: Mapping[str, str]) -> str:
        self.arguments = dict(flags)
        self.requests = Path(flags["requests"]).read_text() if "requests" in flags else ""
        return json.dumps(
            {p: dict.fromkeys(self.programs, self.found[p]) for p in flags["precisions"].split(",")}
        )

    @contextmanager
    def serving(
        self,
        settings: Settings,
        model: Model,
        artefacts: Path,
        precisions: Sequence[str],
        given: Given | None,
        made: Samples,
    ) -> Iterator[Workshop]:
        self.ran.append("serve")
        self.given = given
        manifest = json.loads((artefacts / str(model.version) / artefact.MANIFEST).read_text())
        self.served = manifest["accepted"]
        assert list(self.served) == list(precisions)
        yield self

    def observed(self, groups: Sequence[Sequence[Candidate]]) -> list[Observed]:
        def timed(one: Candidate) -> Candidate:
            ratio = self.ratios[one.precision]
            interval = Interval(ratio, ratio * 0.98, ratio * 1.02)
            return replace(one, p50=0.1 / ratio, speed=Comparison(interval, 0.01))

        return [Observed(0.1, tuple(map(timed, group))) for group in groups]

    def memory(self, precision: str, executed: Sequence[Group]) -> Memory:
        return Memory(90 << 20, 100 << 20, None)


def left(model: Model) -> list[str]:
    """What is next to the versions of the model."""
    folder = model.base / artefact.FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
