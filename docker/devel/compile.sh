#!/usr/bin/env bash
# Compiles $TARGET and leaves the program and the facts about it in /out. Run by Dockerfile.devel, whose
# build arguments are its settings.
set -euo pipefail

read -ra options <<<"${BAZEL_OPTIONS} ${TF_SERVING_BUILD_OPTIONS}"
options+=(--color=no --curses=no --show_progress_rate_limit=15)

bounds=()
if [ -n "${BUILD_MEMORY_MB}" ]; then
    version=$(bazel --version)        # "bazel 7.4.1"; Debian's 4.2.3 says "bazel no_version"
    major=${version#bazel }
    major=${major%%.*}
    if [[ ${major} =~ ^[0-9]+$ ]] && [ "${major}" -ge 7 ]; then
        bounds+=("--local_resources=memory=${BUILD_MEMORY_MB}")
    else
        bounds+=("--local_ram_resources=${BUILD_MEMORY_MB}")
    fi
fi
if [ -n "${BUILD_JOBS}" ]; then
    bounds+=("--jobs=${BUILD_JOBS}")
fi

facts=/out/share/tensorflow_model_server
mkdir -p /out/bin "${facts}"

# Before the hours of compiling: an option that Bazel does not know ends it here.
bazel aquery "${options[@]}" --output=jsonproto "mnemonic(CppCompile, deps(${TARGET}, 1))" >/tmp/actions.json
folder=$(bazel info output_base)
python3 "$(dirname "$0")/describe.py" /tmp/actions.json "${folder}" >"${facts}/build.json"
cat "${facts}/build.json"

echo "+ bazel build ${options[*]} ${bounds[*]} ${TARGET}"
bazel build "${options[@]}" "${bounds[@]}" --verbose_failures "${TARGET}"

label=${TARGET#//}
install -m 755 "bazel-bin/${label/://}" /out/bin/
# Bazel's output is many times the size of the program, and all that is in it is for these very options.
bazel clean
