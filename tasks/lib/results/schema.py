"""The types of result.json. docs/result.md says what each key is, docs/result.schema.json is made from these.

Times are in seconds, sizes in bytes, shares and ratios are fractions; what could not be measured is None.
Keys of classes with total=False are missing in results that an older version of the suite saved.
"""

from __future__ import annotations

from typing import TypedDict

SCHEMA = 3
"""Raised whenever a key changes its name or meaning; a new key alone does not raise it."""


class _PlanOfNow(TypedDict, total=False):
    protocol: str
    block_seconds: float
    min_seconds: float
    instances: int


class Plan(_PlanOfNow):
    """How it was measured."""

    ci_width: float
    max_seconds: float
    max_errors: float
    block_requests: int
    warmup_seconds: float
    seed: int
    timeout: float
    connections: list[int]
    rate: float | None


class Machine(TypedDict):
    """The machine of client and, if this suite started them, servers."""

    cpu: str
    cores: int
    instruction_sets: list[str]
    memory: int
    system: str
    siblings: list[list[int]]
    governor: str | None
    load: list[float] | None
    summary: str
    python: str


class Pinning(TypedDict):
    """Which CPUs were used."""

    servers: list[int]
    client: list[int]
    why: str
    summary: str


class Suite(TypedDict):
    """The version of this suite that measured."""

    commit: str | None
    changed: bool | None
    sources: str


class LeftOut(TypedDict):
    """A contestant that was not measured."""

    name: str
    reason: str


class Origin(TypedDict):
    """Where a model came from."""

    source: str
    address: str
    archive_sha256: str | None
    content_sha256: str


class Conditions(TypedDict):
    """What the system says of a server."""

    cpus: list[int] | None
    memory: int | None
    processes: int | None
    image_digest: str


class _MeasuredOfNow(TypedDict, total=False):
    growth: float | None


class Measured(_MeasuredOfNow):
    """What one contestant did over all its blocks."""

    p50: float | None
    p90: float | None
    p99: float | None
    rate: float
    requests: int
    errors: int
    sent: list[int]
    histogram: str


class _SideOfNow(TypedDict, total=False):
    further: list[list[str]]


class Side(_SideOfNow):
    """A contestant."""

    name: str
    model: str
    urls: list[str]
    backend: str
    precision: str
    origin: Origin | None
    image: str
    image_id: str
    conditions: Conditions | None
    warning: str | None
    measured: Measured | None


class Alone(Side):
    """A contestant that was measured by itself."""

    rounds: int


class Tolerance(TypedDict):
    """The differences that are allowed."""

    absolute: float
    relative: float


class Numbers(TypedDict):
    """How far the numbers of one output differ."""

    absolute: float | None
    relative: float | None
    worst: float | None
    allowed: float | None
    is_probability: bool
    tolerance: Tolerance


class _OutputOfNow(TypedDict, total=False):
    near_ties: int


class Output(_OutputOfNow):
    """How one output agrees."""

    name: str
    is_scores: bool
    same: int
    numbers: Numbers | None


class _AgreementOfNow(TypedDict, total=False):
    exchangeable: float
    is_hollow: bool
    near_ties: int


class Agreement(_AgreementOfNow):
    """Whether both servers answer the same."""

    inputs: int
    same: int
    outputs: list[Output]
    holds: bool
    percent: str
    difference: float | None


class _ComparisonOfNow(TypedDict, total=False):
    effective: float | None
    allowance: float
    stray: float | None


class Comparison(_ComparisonOfNow):
    """What one figure says: above 1 the candidate is better."""

    ratio: float
    low: float
    high: float
    noise: float
    outcome: int


class _DisturbanceOfNow(TypedDict, total=False):
    migrations: dict[str, int]


class Disturbance(_DisturbanceOfNow):
    """What else the machine did while two servers were measured."""

    others: float | None
    stolen: float
    waited: dict[str, float]


class _VerdictOfNow(TypedDict, total=False):
    instances: int
    restarted: list[str]
    disturbance: Disturbance | None


class Verdict(_VerdictOfNow):
    """A finished comparison."""

    baseline: Side
    candidate: Side
    agreement: Agreement
    comparisons: dict[str, Comparison | None]
    problem: str | None
    is_narrow: bool
    rounds: int
    round_ratios: list[float]
    control_ratios: list[float]


class Warmup(TypedDict):
    """The requests that did not count."""

    steady: bool
    requests: int
    seconds: float


class _BlocksOfNow(TypedDict, total=False):
    others: list[float | None]
    stolen: list[float | None]
    waited: list[float | None]
    migrations: list[int | None]
    disturbed: list[bool | None]


class Blocks(_BlocksOfNow):
    """Every block in the order of sending, as columns of equal length."""

    label: list[str]
    start: list[float]
    p50: list[float]
    rate: list[float]


class Run(TypedDict):
    """One comparison, or one contestant by itself, over one number of connections."""

    time: str
    connections: int
    sentence: str
    notes: list[str]
    alone: Alone | None
    verdict: Verdict | None
    warmup: Warmup | None
    blocks: Blocks | None


class Repetition(TypedDict):
    """What one comparison came to in one run of --repeat."""

    comparison: str
    p50: Comparison | None


class _ResultOfNow(TypedDict, total=False):
    why_this_model: str | None
    repetitions: list[Repetition]
    left_out: list[LeftOut]
    suite: Suite


class Result(_ResultOfNow):
    """The whole of result.json."""

    schema: int
    time: str
    command: str
    engine: str | None
    machine: Machine
    versions: dict[str, str]
    pinning: Pinning | None
    plan: Plan
    runs: list[Run]
