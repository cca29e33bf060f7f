"""What can go wrong, and what to do about it.

    SuiteError                 exit 1: a user error; the message says how to fix it
    ├── SettingError           a setting or flag has a value that cannot be used
    ├── ModelError             unknown model, no SavedModel, wrong version
    ├── DownloadError          an archive that cannot be fetched, trusted or unpacked
    │   └── Unreachable        ... because its address does not give it
    ├── EnvironmentBuildError  the embedded environment cannot be made
    ├── ServerError            a server does not start, dies, or does not answer
    │   ├── RequestRefused     it answers with an error (carries the HTTP status)
    │   └── NoAnswer           exit 3: requests that were to be timed all fail
    ├── OptimizeError          no optimized artefact can be made or trusted
    │   └── CannotGain             ... because the model does not gain from it; serve it as it is
    ├── DockerError            the Docker Engine is not there, refuses, or is elsewhere
    ├── ImageBuildError        an image cannot be built
    ├── GateFailed             exit 2: a gate is not passed
    └── NotComparable          exit 3: other answers, too many failed requests, or nothing to compare

Every one is raised with two sentences: what is wrong, and what to do. Anything else that escapes is
a defect of this suite and shows its traceback.
"""

from __future__ import annotations


class SuiteError(Exception):
    """The one error root. `problem` says what is wrong, `remedy` what to do; each is one sentence."""

    exit_code = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}"


class SettingError(SuiteError):
    """A setting or flag has a value that cannot be used."""


class ModelError(SuiteError):
    """The model is unknown, is no SavedModel, or lacks the version asked for."""


class DownloadError(SuiteError):
    """An archive cannot be fetched, trusted or unpacked."""


class Unreachable(DownloadError):
    """The archive's address does not give it: no route, no name, no server, or a refusal."""


class EnvironmentBuildError(SuiteError):
    """The embedded server's virtual environment cannot be made."""


class ServerError(SuiteError):
    """A server does not start, has died, or does not answer."""


class RequestRefused(ServerError):
    """The server answered with an error. `status` is the HTTP status, `message` the server's own."""

    def __init__(self, problem: str, remedy: str, *, status: int, message: str) -> None:
        super().__init__(problem, remedy)
        self.status = status
        self.message = message


class NoAnswer(ServerError):
    """All requests failed that were to be timed, so there is nothing to compare."""

    exit_code = 3


class OptimizeError(SuiteError):
    """No optimized artefact can be made, or the one there cannot be trusted."""


class CannotGain(OptimizeError):
    """The model cannot be optimized, or not with a gain; the message says why.

    `invoke serve` serves it as it is.
    """


class DockerError(SuiteError):
    """The Docker Engine is not there, refuses, or is on another machine."""


class ImageBuildError(SuiteError):
    """An image cannot be built."""


class GateFailed(SuiteError):
    """A gate is not passed: a benchmark's --min-ratio, or tests failed."""

    exit_code = 2


class NotComparable(SuiteError):
    """Two servers answer differently, too many requests failed, or one was left out: there is no verdict."""

    exit_code = 3
