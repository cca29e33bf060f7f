"""What `docker build` writes, read while it is being written: steps, compilers, and why it failed.

Two builders write two formats. The classic one numbers its steps ("Step 3/9 : RUN ...") and writes
what they print as it is; BuildKit numbers its vertices ("#7 [compile 3/9] RUN ...") and writes
"#7 12.3 " before each line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice

from tasks.lib.common import console

CLASSIC_STEP = re.compile(r"^Step (\d+/\d+) : (.+)$")
CLASSIC_CONTAINER = re.compile(r"^ ---> (?:\[Warning\].*)?Running in ([0-9a-f]{12,64})\s*$")
BUILDKIT_STEP = re.compile(r"^#(\d+) \[(?!internal\]|auth\])([^\]]+)\] (.+)$")
BUILDKIT_LINE = re.compile(r"^#(\d+) (?:\d+\.\d+ )?(.*)$")
BUILDKIT_ENDED = re.compile(r"^(?:DONE \d|CACHED$|CANCELED$)")
BAZEL = re.compile(r"\[[\d,]+ / [\d,]+\] .*")
ENDED = re.compile(
    r"(?:^The command .* returned a non-zero code|"
    r"(?:executor failed|did not complete|^ERROR: ).*exit code): (\d+)$"
)
"""How the builders say that a step failed, the classic one and BuildKit's."""
CHATTER = re.compile(r"^#\d+ sha256:[0-9a-f]{64}$|^Removing intermediate container |^ ---> ")
"""What the builders say of their own work."""
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

TELLING = re.compile(
    r"\berror\b|\bE: |\bFAILED\b|\bfatal\b|undefined reference|\bKilled\b|exit code|non-zero code|"
    r"No space left|not found|denied|refused|timed out|could not|cannot|unable to|Traceback",
    re.IGNORECASE,
)
"""What a line says that explains a failure. Bazel prints thousands that do not."""
KEPT = 400
"""Lines of a step that are kept in memory; the log file has all of them."""
SHOWN = 15
WIDTH = 300
"""Characters of a shown line: a compiler's command line has thousands."""


@dataclass
class Step:
    """One step of a build, and the last of what it printed."""

    number: str
    """"3/9", or "compile 3/9" where there are stages."""
    instruction: str
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"step {self.number}: {console.shortened(self.instruction, 100)}"

    def add(self, line: str) -> None:
        self.lines.append(line)
        del self.lines[:-KEPT]


class Reader:
    """Follows a build's output line by line."""

    def __init__(self) -> None:
        self.step: Step | None = None
        """The step that runs now, or ran last."""
        self.failed: Step | None = None
        """The step that BuildKit named as the failed one."""
        self.activity = ""
        """Bazel's last line of progress, or the last line at all."""
        self.containers: list[str] = []
        """Containers of the classic builder's steps."""
        self.endings: list[str] = []
        """What was said outside of any step: the builder's own verdict."""
        self._vertices: dict[str, Step] = {}
        self._buildkit = False

    def feed(self, line: str) -> Step | None:
        """Take one line of the log; return the step that it begins, if it does."""
        line = ANSI.sub("", line.rpartition("\r")[2] or line).rstrip()
        if not line:
            return None
        if begun := self._begun(line):
            self.step, self.activity = begun, ""
            return begun
        if match := CLASSIC_CONTAINER.match(line):
            self.containers.append(match[1])
        elif not CHATTER.match(line):
            self._output(line)
        return None

    def _begun(self, line: str) -> Step | None:
        if match := CLASSIC_STEP.match(line):
            return Step(match[1], match[2])
        if match := BUILDKIT_STEP.match(line):
            self._buildkit = True
            vertex, number, instruction = match.groups()
            if vertex in self._vertices:  # named again when its output goes on after another's
                self.step = self._vertices[vertex]
                return None
            self._vertices[vertex] = Step(number, instruction)
            return self._vertices[vertex]
        return None

    def _output(self, line: str) -> None:
        step, text = self.step, line
        if self._buildkit:
            match = BUILDKIT_LINE.match(line)
            step = self._vertices.get(match[1]) if match else None
            if match:
                text = match[2]
                if step and text.startswith("ERROR"):
                    self.failed = step
        if step is None or _is_verdict(text):
            self.endings.append(text)
            del self.endings[:-KEPT]
        else:
            step.add(text)
        if (match := BAZEL.search(text)) or not BAZEL.search(self.activity):
            self.activity = match[0] if match else text
        if BUILDKIT_ENDED.match(text):
            self.activity = ""


@dataclass(frozen=True)
class Failure:
    """Why a build failed."""

    number: str
    """Which step; empty if none was begun."""
    step: str
    """The same, with its instruction."""
    lines: tuple[str, ...]
    """What matters of what it printed, and how it ended."""


def failure(reader: Reader) -> Failure:
    """What a failed build ended with."""
    step = reader.failed or reader.step
    printed = step.lines if step is not None else []
    printed = [line for line in printed if TELLING.search(line) or not BAZEL.match(line)]
    matter = [line for line in printed if TELLING.search(line)]
    # The first telling lines are the cause, the last ones of all what became of it.
    selected = {*islice(matter, SHOWN // 3), *printed[-(SHOWN // 2) :]}
    verdicts = [line for line in reversed(reader.endings) if TELLING.search(line)][:1]
    shown = dict.fromkeys(
        _told(line) for line in [*(line for line in printed if line in selected), *verdicts]
    )
    return Failure("" if step is None else step.number, "" if step is None else str(step), tuple(shown))


def _told(line: str) -> str:
    """A line as it is shown. The builders' verdicts repeat the whole command: only how it ended matters."""
    ended = ENDED.search(line)
    return f"exit code: {ended[1]}" if ended else console.shortened(line, WIDTH)


def _is_verdict(text: str) -> bool:
    """Whether the classic builder said it itself, after the failed step's own last line."""
    return text.startswith(("The command '", "failed to build:", "Error response from daemon"))
