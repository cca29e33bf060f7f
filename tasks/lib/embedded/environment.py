"""The embedded environment: a virtual environment of its own for everything that needs TensorFlow.

It is made from docker/embedded/requirements.lock, and a file in it says what it was made from. That
file is written last, so an environment whose building was cut short, however, is never mistaken for
a whole one. The task runner never imports from it; it runs programs in it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tasks.lib.common import console, locks, processes
from tasks.lib.common.errors import DownloadError, EnvironmentBuildError, SuiteError, Unreachable
from tasks.lib.common.removal import Removal
from tasks.lib.common.settings import Settings

SOURCES = Path("docker", "embedded")
"""Where the programs of the environment are, counted from the project's root."""
LOCK = SOURCES / "requirements.lock"
SIGN = "serving-suite"
"""The file in the environment that makes it ours; its text is the fingerprint, once it is whole."""
PYTHONS = ((3, 10), (3, 13))
"""The oldest and the newest Python that TensorFlow 2.21 has wheels for (its page on PyPI)."""
TAIL = 15
"""Lines of a log that are shown when a program fails."""

# They would send packages elsewhere, or let the environment see packages that are not its own.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")


def python(settings: Settings) -> Path:
    """The environment's interpreter, whether it is there yet or not."""
    return settings.paths.environment / "bin" / "python"


def is_built(settings: Settings) -> bool:
    """Whether the environment is whole and made from today's lock by this Python. Takes no time."""
    try:
        sign = (settings.paths.environment / SIGN).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return False
    # The interpreter is a link, which dangles once the Python it was made from is uninstalled.
    return sign == _fingerprint(settings) and python(settings).exists()


def ensure(settings: Settings) -> Path:
    """Build the environment unless it is there, and return its interpreter.

    On --dry the commands are printed and nothing is done. Raises EnvironmentBuildError, with what was
    half built removed again, if it cannot be made.
    """
    if is_built(settings):
        return python(settings)
    _check_python()
    if settings.dry:
        for argv in _commands(settings):
            console.command(shown(settings, argv))
        return python(settings)
    with _locked(settings):
        if not is_built(settings):
            processes.end_orphans(settings.paths.state)
            _remove(settings)
            try:
                _build(settings)
            except BaseException:
                with processes.uninterrupted():
                    _remove(settings)
                raise
    return python(settings)


def remove(settings: Settings) -> None:
    """Remove the environment, whole or half built. Raises EnvironmentBuildError if it is not ours."""
    with _locked(settings):
        processes.end_orphans(settings.paths.state)
        _remove(settings)


def pip(settings: Settings) -> list[str]:
    """The pip command that works on the environment, which has a pip of its own only if it must."""
    if _pip_serves_others():
        return [sys.executable, "-m", "pip", "--python", str(python(settings))]
    return [str(python(settings)), "-m", "pip"]


def command(settings: Settings, module: str, args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that runs a module of docker/embedded, and what must be added to its environment.

    It is run from the project's root.
    """
    return [str(python(settings)), "-m", module, *args], {"PYTHONPATH": str(SOURCES)}


def program(settings: Settings) -> list[str]:
    """What the embedded server is, in digests: the environment's inputs and its own sources."""
    sources = sorted((settings.paths.root / SOURCES / "embedded_server").rglob("*.py"))
    return [_fingerprint(settings), *(sha256(source.read_bytes()).hexdigest() for source in sources)]


def inherited() -> dict[str, str]:
    """What a program in the environment inherits of ours: proxies and the like, but no foreign packages."""
    # Packages are installed uncompiled, which saves a third of the time; Python keeps what it
    # compiles at the first import, unless it is told not to.
    dropped = (*FOREIGN, "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def shown(settings: Settings, argv: Sequence[str]) -> list[str]:
    """`argv` as a person at the project's root would type it."""
    return [word.replace(f"{settings.paths.root}{os.sep}", "") for word in argv]


@dataclass(frozen=True)
class Ended:
    """A program that has come to its end."""

    status: int
    """Its exit status; negative for the signal that ended it."""
    output: str
    """What it printed on stdout."""
    log: Path
    """What it printed on stderr."""

    @property
    def last_line(self) -> str:
        """The last line on stderr, where a program says why it failed; "" if there is none."""
        return _last_line(processes.tail(self.log, TAIL))


def execute(settings: Settings, module: str, args: Sequence[str], label: str, about: str = "") -> Ended:
    """Run a module of docker/embedded to its end.

    The environment is built first if need be; `label` says what is being done. All of its stderr is kept
    in the state folder, as logs/MODULE.log until the next run. What may run at the same time as another
    says in `about` what it works on, and has its log to itself: logs/MODULE.ABOUT.log.
    """
    ensure(settings)
    processes.end_orphans(settings.paths.state)
    argv, added = command(settings, module, args)
    console.command(shown(settings, argv), added)
    log = _log(settings, f"{module}.{about}" if about else module)
    status, output = processes.run(
        argv,
        state=settings.paths.state,
        label=label,
        log=log,
        cwd=settings.paths.root,
        environment={**inherited(), **added},
    )
    return Ended(status, output, log)


def run(
    settings: Settings,
    module: str,
    args: Sequence[str],
    label: str,
    error: type[SuiteError] = EnvironmentBuildError,
    about: str = "",
) -> str:
    """Run a module of docker/embedded, as `execute` does, and return what it printed on stdout.

    Raises `error` if the program fails, after showing the last lines of its stderr.
    """
    ended = execute(settings, module, args, label, about)
    if ended.status != 0:
        raise failure(settings, ended, label, error)
    return ended.output


def failure(settings: Settings, ended: Ended, label: str, error: type[SuiteError]) -> SuiteError:
    """The error for a program that failed, after the last lines of its stderr were shown."""
    text = processes.tail(ended.log, TAIL)
    console.note(text)
    return error(
        f"{label} failed: {ending(ended.status, text)}.",
        f"The lines above say why; all of them are in {settings.paths.shown(ended.log)}.",
    )


def ending(status: int, log: str) -> str:
    """How a program ended, in words: its last line, or the signal that killed it."""
    if status < 0:
        name = signal.Signals(-status).name
        reason = " (the system kills with it when memory runs out)" if name == "SIGKILL" else ""
        return f"it was ended by {name}{reason}"
    return _reason(_last_line(log)) or f"it ended with status {status} and said nothing"


LONGEST_REASON = 2000
"""Characters. A reason that names every missing operation or file is long, and needed in full."""


def _reason(line: str) -> str:
    """A line that says why, as part of a sentence."""
    return console.shortened(line.rstrip(".?! "), LONGEST_REASON)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _fingerprint(settings: Settings) -> str:
    """What the environment depends on: the lock, the Python version, the platform, and how it is made."""
    digest = sha256((settings.paths.root / LOCK).read_bytes())
    for part in (sys.implementation.cache_tag, sysconfig.get_platform(), *PIP_OPTIONS):
        digest.update(f"\0{part}".encode())
    return digest.hexdigest()


def _check_python() -> None:
    oldest, newest = PYTHONS
    if not oldest <= sys.version_info[:2] <= newest:
        supported = f"{oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}"
        raise EnvironmentBuildError(
            f"TensorFlow has no package for Python {sys.version_info[0]}.{sys.version_info[1]}.",
            f"Make the virtual environment of this suite with Python {supported}.",
        )


PIP_OPTIONS = (
    "--require-hashes",
    "--no-deps",  # the lock is complete
    "--only-binary", ":all:",
    "--no-compile",
    "--no-input",
    "--progress-bar", "off",
    "--disable-pip-version-check",
)  # fmt: skip


def _commands(settings: Settings) -> list[list[str]]:
    without_pip = ["--without-pip"] if _pip_serves_others() else []
    # venv refuses a link, such as one to another disk.
    folder = os.path.realpath(settings.paths.environment)
    make = [sys.executable, "-m", "venv", *without_pip, folder]
    return [make, [*pip(settings), "install", *PIP_OPTIONS, "-r", str(settings.paths.root / LOCK)]]


def _pip_serves_others() -> bool:
    """Whether the runner's own pip can install into another environment, which saves making one there.

    `pip --python` came with pip 22.3.
    """
    try:
        major, minor = version("pip").split(".")[:2]
        return (int(major), int(minor)) >= (22, 3)
    except (PackageNotFoundError, ValueError):
        return False


def _build(settings: Settings) -> None:
    folder = settings.paths.environment
    console.note(f"building the embedded environment in {settings.paths.shown(folder)} (once)")
    log = _log(settings, "environment")
    # pip refuses to install "for the user" into a virtual environment, and some systems ask for it.
    environment = {**inherited(), "PIP_USER": "0"}
    labels = ("making a virtual environment", "installing what docker/embedded/requirements.lock names")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SIGN).write_text("being built")
        for argv, label in zip(_commands(settings), labels, strict=True):
            console.command(shown(settings, argv))
            status, _ = processes.run(
                argv,
                state=settings.paths.state,
                label=label,
                log=log,
                cwd=settings.paths.root,
                environment=environment,
                capture=False,
            )
            if status != 0:
                raise _failure(settings, status, log)
        (folder / SIGN).write_text(_fingerprint(settings))
    except OSError as error:
        raise EnvironmentBuildError(
            f"The embedded environment cannot be built: {error.strerror or error}.",
            f"Free disk space, and check the permissions of {settings.paths.shown(folder)}, or set "
            "INVOKE_PATHS_ENVIRONMENT.",
        ) from error


def download(settings: Settings, requirement: str, digest: str, folder: Path) -> Path:
    """Fetch the wheel NAME==VERSION with this SHA-256 from the package index into `folder`; returns its path.

    pip keeps it in its own cache. The environment is built first if need be. Raises Unreachable if the index
    does not give it, and DownloadError if it gives another file.
    """
    ensure(settings)
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{digest}\n")
    options = [option for option in PIP_OPTIONS if option != "--no-compile"]
    argv = [*pip(settings), "download", *options, "--dest", str(folder), "-r", str(wanted)]
    console.command(shown(settings, argv))
    log = _log(settings, "download")
    status, _ = processes.run(
        argv,
        state=settings.paths.state,
        label=f"downloading {requirement} from the package index",
        log=log,
        cwd=settings.paths.root,
        environment=inherited(),
        capture=False,
    )
    found = sorted(folder.glob("*.whl"))
    if status == 0 and found:
        return found[0]
    text = processes.tail(log)
    if re.search("DO NOT MATCH THE HASHES", text):
        raise DownloadError(
            f"The package index gives another file as {requirement} than the catalogue names by its SHA-256.",
            "Find out what the package index or a proxy in between has changed.",
        )
    raise Unreachable(
        f"The package index does not give {requirement}: {_pip_error(text) or ending(status, text)}.",
        "Check the network, and the proxy, index and certificate settings of pip (`pip config list`).",
    )


REMEDIES = (
    # (what the log of pip or venv says, what to do)
    (r"No space left on device|Disk quota exceeded", "Free 3 GB of disk space and try again."),
    (
        r"DO NOT MATCH THE HASHES",
        "A package differs from the one that was tested: clear pip's cache with `pip cache purge`, and "
        "find out what the package index or proxy in between has changed.",
    ),
    (
        r"ensurepip is not available",
        "Install Python's venv module (on Debian and Ubuntu: apt install python3-venv).",
    ),
    (
        r"connection broken|NewConnectionError|ConnectTimeout|ProxyError|SSLError|name resolution",
        "Check the network, and the proxy, index and certificate settings of pip (`pip config list`).",
    ),
    (
        r"No matching distribution",
        "Check the index settings of pip (`pip config list`), and that TensorFlow exists for this system.",
    ),
)


def _failure(settings: Settings, status: int, log: Path) -> EnvironmentBuildError:
    text = processes.tail(log)
    console.note(processes.tail(log, TAIL))
    reason = (status > 0 and _pip_error(text)) or ending(status, text)
    remedy = next(
        (advice for pattern, advice in REMEDIES if re.search(pattern, text)), "The lines above say why."
    )
    return EnvironmentBuildError(
        f"The embedded environment cannot be built: {reason}.",
        f"{remedy} The whole log is {settings.paths.shown(log)}.",
    )


def _pip_error(log: str) -> str:
    """What went wrong, as pip says it; "" if it says nothing. Its last line may be advice."""
    errors = re.findall(r"^ERROR: (.*)$", log, re.MULTILINE) or re.findall(
        r"^Error: (.*)$", log, re.MULTILINE
    )
    return _reason(errors[-1]) if errors else ""


def _remove(settings: Settings) -> None:
    """Empty and remove the folder, if it is ours. A link to a folder elsewhere stays, its contents go."""
    folder = settings.paths.environment
    if not folder.exists():
        return
    contents = list(folder.iterdir()) if folder.is_dir() else [folder]
    if contents and not (folder / SIGN).is_file():
        raise EnvironmentBuildError(
            f"{settings.paths.shown(folder)} is not an environment of this suite, so it is left alone.",
            "Move it away, or set INVOKE_PATHS_ENVIRONMENT to a folder that does not exist yet.",
        )
    # The sign goes last: what a kill leaves half removed must still be recognised as ours.
    for entry in sorted(contents, key=lambda entry: entry.name == SIGN):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not folder.is_symlink():
        folder.rmdir()


def _log(settings: Settings, name: str) -> Path:
    """An empty log file."""
    log = settings.paths.state / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    return log


def _locked(settings: Settings) -> AbstractContextManager[None]:
    return locks.held(settings.paths, "environment", "it is building the embedded environment")


def removal(settings: Settings) -> Removal:
    """Of the environment."""
    folder = settings.paths.environment
    return Removal(
        "embedded environment",
        settings.paths.shown(folder),
        [folder] if folder.is_dir() else [],
        lambda: remove(settings),
    )
