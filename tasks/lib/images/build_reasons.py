"""Known reasons why an image cannot be built, recognised by what the build wrote, and what to do."""

from __future__ import annotations

import re

from tasks.lib.common import console
from tasks.lib.common.errors import ImageBuildError
from tasks.lib.common.settings import Build
from tasks.lib.images.build_log import Failure
from tasks.lib.images.preflight import Limits

MEMORY = re.compile(
    r"\bKilled\b|"
    r"\bcc1plus\b.*\bterminated\b|virtual memory exhausted|std::bad_alloc|Cannot allocate memory|"
    r"out of memory allocating|OutOfMemoryError|Server terminated abruptly|LLVM ERROR: out of memory"
)
"""What the kernel's out-of-memory killer leaves behind: in the shell, in gcc, and in Bazel."""

KILLED = re.compile(r"^exit code: 137$", re.MULTILINE)
"""Nothing else was said: it may also have been a `docker kill`."""
BASE_IMAGES = {
    "devel": "INVOKE_BUILD_BASE_IMAGE",
    "optimized": "INVOKE_BUILD_SERVING_BASE_IMAGE",
    "embedded": "INVOKE_BUILD_EMBEDDED_BASE_IMAGE",
}
"""What names the image that each kind is built on."""
GONE = (
    "the Docker Engine went away",
    "Look at its log (`journalctl -u docker`), start it and try again.",
)

REASONS = (
    # (what the build wrote, what is wrong, what to do)
    (
        r"No space left on device|Disk quota exceeded",
        "the disk at Docker's data folder is full",
        "Free disk space there (`docker system df`, `docker builder prune`) and try again.",
    ),
    (
        r"Remote branch \S+ not found|couldn't find remote ref|did not match any (file|branch)",
        "the source has no tag {tag}",
        "Set INVOKE_BUILD_TAG to a release of TensorFlow Serving, such as 2.20.0 (without a v).",
    ),
    (
        r"toomanyrequests|rate limit",
        "the registry limits requests, and the limit is reached",
        "Wait, or log in with `docker login`.",
    ),
    (
        r"unauthorized|authentication required|no basic auth credentials|incorrect username or password",
        "the registry refuses the credentials",
        "Log in with `docker login`, and check the image names under `build` in invoke.yaml.",
    ),
    (
        r"manifest unknown|manifest for \S+ not found|pull access denied|repository does not exist|"
        r"repository name not known|invalid reference format|"
        # BuildKit. A command or a file to copy that is missing is "not found" as well.
        r"(?:source metadata for|LLB definition:|failed to solve:) (?:\S+: )*\S+:\S+: not found$",
        "an image that it is built from does not exist, or is private",
        "Check the base images under `build` in invoke.yaml, or log in with `docker login`.",
    ),
    (
        r"Could not resolve host|Temporary failure (in name resolution|resolving)|no such host|"
        r"Network is unreachable|Connection (refused|timed out|reset)|connection refused|i/o timeout|"
        r"Failed to connect|Could not connect|TLS handshake|context deadline exceeded",
        "a download cannot be reached",
        "Check the network and the proxy (HTTP_PROXY and HTTPS_PROXY reach the build; one that listens on "
        "127.0.0.1 only with INVOKE_BUILD_NETWORK=host).",
    ),
    (
        r"certificate (verify failed|signed by unknown)|SSL certificate problem|CERTIFICATE_VERIFY_FAILED|"
        r"certificate verification failed",
        "a certificate is not trusted inside the build",
        "If there is a proxy, name a base image that has its certificate with {base_image}.",
    ),
    (
        r"computed checksum did NOT match|checksum mismatch|DO NOT MATCH THE HASHES",
        "a download differs from what was tested",
        "Try again, and find out what the proxy or mirror in between has changed.",
    ),
    (
        r"network \S+ not found|network mode \S+ not supported|is not supported by buildkit",
        "Docker has no network {network} for builds",
        "Set INVOKE_BUILD_NETWORK to default, host or none.",
    ),
    (
        r"error during connect|Cannot connect to the Docker daemon|unexpected EOF|connection reset by peer$",
        *GONE,
    ),
    (
        r"buildx component is missing or broken",
        "DOCKER_BUILDKIT is set, and this docker command has no buildx",
        "Unset DOCKER_BUILDKIT, or install docker-buildx.",
    ),
)


def gone(kind: str, log: str) -> ImageBuildError:
    """The error for a build whose daemon does not answer any more."""
    return ImageBuildError(f"build.{kind} failed: {GONE[0]}.", f"{GONE[1]} The whole log is {log}.")


def explain(
    kind: str, failed: Failure, status: int, build: Build, limits: Limits | None, log: str
) -> ImageBuildError:
    """The error for a build of `kind` that ended with `status`; shows the lines that matter.

    `limits` is what the compilation was allowed, and `log` where all of its output is.
    """
    if failed.step:
        console.note(f"build.{kind} failed at {failed.step}")
    for line in failed.lines:
        console.note(f"  {line}")
    where = f"The whole log is {log}."
    text = "\n".join(failed.lines)
    if MEMORY.search(text):
        return ImageBuildError(f"build.{kind} ran out of memory.", f"{_less(limits)} {where}")
    if KILLED.search(text):
        problem = f"build.{kind} was killed, which the system does when memory runs out (exit code 137)."
        return ImageBuildError(problem, f"{_less(limits)} {where}")
    for pattern, problem, remedy in REASONS:
        if re.search(pattern, text, re.MULTILINE):
            said = problem.format(tag=build.tag, network=build.network)
            advice = remedy.format(base_image=BASE_IMAGES[kind])
            return ImageBuildError(f"build.{kind} failed: {said}.", f"{advice} {where}")
    step = f"at step {failed.number}" if failed.number else f"with status {status}"
    return ImageBuildError(f"build.{kind} failed {step}.", f"The lines above say why. {where}")


def _less(limits: Limits | None) -> str:
    """What to set so that a compilation takes less memory than it was allowed."""
    if limits is None:
        return "End other programs, or add memory or swap, and try again."
    fewer = max(1, limits.jobs // 2)
    memory = max(1024, limits.memory_mb * 2 // 3)
    return (
        f"It had INVOKE_BUILD_MEMORY_MB={limits.memory_mb} and INVOKE_BUILD_JOBS={limits.jobs}: set them to "
        f"{memory} and {fewer}, or add memory or swap, and try again."
    )
