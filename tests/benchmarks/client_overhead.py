"""What the benchmark's hot loop adds to what wrk reports on the same server.

The embedded server serves a small model that takes photos; wrk and tasks.lib.measure.load.Load send it
the same request over one connection, in alternation. Prints the p50 of both for each round and the
95 % interval of their difference.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tasks.lib.client.inputs import requests_for  # noqa: E402
from tasks.lib.client.rest import Client  # noqa: E402
from tasks.lib.measure.load import Load  # noqa: E402
from tasks.lib.measure.stats import t_quantile  # noqa: E402
from tests.integration.conftest import Suite  # noqa: E402

ROUNDS = 10
SECONDS = 3

LUA = """
local file = io.open("%s", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
"""


def wrk_p50(url: str, script: Path) -> float:
    """wrk's p50 in milliseconds over one connection."""
    command = ["wrk", "-t1", "-c1", f"-d{SECONDS}s", "--latency", "-s", str(script), f"{url}:predict"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out:
        raise SystemExit(out)
    found = re.search(r"50%\s+([\d.]+)(us|ms|s)", out)
    assert found, out
    return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]


def our_p50(url: str, body: bytes, count: int) -> float:
    """The hot loop's p50 in milliseconds over one connection."""
    with Load([url], 30) as load:
        block = load.send_closed_loop([load.prepare(body)] * count)
    assert block.errors == 0
    return float(np.median(block.latencies)) * 1000


def main() -> None:
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed.\nInstall it (Debian: apt-get install wrk).")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        suite = Suite(folder)
        suite.run("build.embedded")
        python = ROOT / ".state" / "embedded" / "bin" / "python"
        subprocess.run(
            [python, ROOT / "tests/embedded/saved_models.py", folder / "made"],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        suite.run("download", "--model", "tf1", "--path", str(folder / "made" / "tf1"))
        url = suite.run("serve", "--model", "tf1").stdout.splitlines()[0]
        try:
            compare(url, folder)
        finally:
            suite.run("teardown")


def compare(url: str, folder: Path) -> None:
    (sample,) = requests_for(Client(url).metadata(), [ROOT / "models/samples/cat.jpg"])
    (folder / "body.json").write_bytes(sample.body)
    script = folder / "post.lua"
    script.write_text(LUA % (folder / "body.json"))
    wrk_p50(url, script)
    differences = []
    for number in range(ROUNDS):
        theirs = wrk_p50(url, script)
        ours = our_p50(url, sample.body, int(SECONDS * 1000 / theirs))
        again = wrk_p50(url, script)
        differences.append(ours - (theirs + again) / 2)
        print(f"round {number + 1}: wrk {theirs:.3f} and {again:.3f} ms, this client {ours:.3f} ms")
    spread = np.std(differences, ddof=1) / np.sqrt(ROUNDS) * t_quantile(0.975, ROUNDS - 1)
    added = f"{np.mean(differences):.3f} ± {spread:.3f} ms at p50 (95% CI)"
    print(f"{len(sample.body)} byte requests: this client adds {added}")


if __name__ == "__main__":
    main()
