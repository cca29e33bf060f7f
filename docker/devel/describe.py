"""Print, as JSON, what is about to be compiled and which CPUs will be able to run it.

`python3 describe.py ACTIONS FOLDER`, where ACTIONS is what `bazel aquery --output=jsonproto` says about the
compiler calls, and FOLDER is Bazel's output base, from where a compiler that Bazel brings is named. Which
instructions they may use is asked of the compiler itself, given their very -m options: that is what really
counts, whatever the build options are called. Standard library only.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

# Macros that GCC and Clang predefine for an instruction set, and its name in /proc/cpuinfo. Those that the
# published image is compiled for as well (SSE4.2, AVX) are left out: every CPU that matters has them.
INSTRUCTION_SETS = {
    "__AVX2__": "avx2",
    "__FMA__": "fma",
    "__F16C__": "f16c",
    "__BMI__": "bmi1",
    "__BMI2__": "bmi2",
    "__LZCNT__": "abm",
    "__MOVBE__": "movbe",
    "__ADX__": "adx",
    "__AVX512F__": "avx512f",
    "__AVX512CD__": "avx512cd",
    "__AVX512BW__": "avx512bw",
    "__AVX512DQ__": "avx512dq",
    "__AVX512VL__": "avx512vl",
    "__AVX512IFMA__": "avx512ifma",
    "__AVX512VBMI__": "avx512vbmi",
    "__AVX512VBMI2__": "avx512_vbmi2",
    "__AVX512VNNI__": "avx512_vnni",
    "__AVX512BITALG__": "avx512_bitalg",
    "__AVX512VPOPCNTDQ__": "avx512_vpopcntdq",
    "__AVX512BF16__": "avx512_bf16",
    "__AVX512FP16__": "avx512_fp16",
    "__AVXVNNI__": "avx_vnni",
    "__GFNI__": "gfni",
    "__VAES__": "vaes",
    "__VPCLMULQDQ__": "vpclmulqdq",
    "__AMX_TILE__": "amx_tile",
    "__AMX_INT8__": "amx_int8",
    "__AMX_BF16__": "amx_bf16",
}


def instruction_sets(compiler: str, options: list[str], folder: str) -> list[str]:
    """The instruction sets, by their names in /proc/cpuinfo, that `compiler` uses with these -m options."""
    argv = [compiler, *options, "-dM", "-E", "-x", "c++", os.devnull]
    macros = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, cwd=folder).stdout
    defined = set(re.findall(r"^#define (\w+) ", macros, re.MULTILINE))
    return [name for macro, name in INSTRUCTION_SETS.items() if macro in defined]


def main() -> None:
    """The program."""
    actions = json.loads(Path(sys.argv[1]).read_text()).get("actions", [])
    if not actions:
        sys.exit("describe.py: Bazel compiles no C++ for this target, so what it is compiled for is unknown")
    found: set[str] = set()
    calls = {
        (words[0], *(w for w in words if w.startswith("-m")))
        for words in (action["arguments"] for action in actions)
    }
    for compiler, *options in calls:
        found.update(instruction_sets(compiler, options, sys.argv[2]))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    facts = {
        "source": os.environ["TF_SERVING_SOURCE"],
        "tag": os.environ["TF_SERVING_TAG"],
        "commit": commit,
        "build_options": os.environ["TF_SERVING_BUILD_OPTIONS"],
        "instruction_sets": [name for name in INSTRUCTION_SETS.values() if name in found],
    }
    json.dump(facts, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
