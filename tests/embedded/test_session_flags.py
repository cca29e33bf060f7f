"""What flags change of TensorFlow's sessions: the MetaGraph, the arithmetic, and settings from a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
from embedded_server.common.errors import StartError
from embedded_server.config.flags import parse_flags
from embedded_server.config.session_config import session_config
from running import Server, run_to_end

CPUS = Path("/proc/cpuinfo")
ON = "graph_options { rewrite_options { auto_mixed_precision_onednn_bfloat16: ON } }"


def predicted(base_path: Path, instances: list[Any], *flags: str) -> Any:
    with Server(f"--model_base_path={base_path}", "--model_name=m", *flags) as server:
        status, answer = server.call("POST", "/v1/models/m:predict", {"instances": instances})
        assert status == 200, answer
        return answer["predictions"]


def test_tags_choose_the_metagraph(tmp_path: Path) -> None:
    saved_models.write_tagged(tmp_path / "1")
    assert predicted(tmp_path, [1.5]) == [1.5]
    assert predicted(tmp_path, [1.5], "--saved_model_tags=") == [1.5]
    assert predicted(tmp_path, [1.5], "--saved_model_tags=double,serve") == [3.0]
    code, log = run_to_end(
        f"--model_base_path={tmp_path}",
        f"--grpc_socket_path={tmp_path}/s",
        "--rest_api_port=0",
        "--saved_model_tags=half",
    )
    assert code == 1
    assert f"embedded_server: cannot load the SavedModel in {tmp_path / '1'}: MetaGraphDef" in log
    assert "half" in log


def test_an_optimized_model_has_one_tag() -> None:
    optimized = ("--model_base_path=/m", "--backend=openvino")
    assert parse_flags([*optimized, "--saved_model_tags=serve"]).saved_model_tags == ("serve",)
    with pytest.raises(StartError, match="serves what has the tag serve alone"):
        parse_flags([*optimized, "--saved_model_tags=serve,gpu"])


def test_what_an_optimized_model_does_not_follow(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parse_flags(["--model_base_path=/m", "--backend=openvino", "--mixed_precision=bfloat16"])
    assert caplog.messages == ["--mixed_precision is ignored: it goes with --backend=tensorflow"]


@pytest.mark.skipif(
    not CPUS.exists() or "avx512_bf16" not in CPUS.read_text(), reason="oneDNN has no bfloat16 on this CPU"
)
def test_mixed_precision_by_its_flag_and_by_a_file(tmp_path: Path) -> None:
    saved_models.write_products(tmp_path / "1")
    (tmp_path / "session.config").write_text(ON)
    rows = np.random.default_rng(1).normal(size=(8, 256)).round(3).tolist()
    exact = np.array(predicted(tmp_path, rows))
    for flag in ("--mixed_precision=bfloat16", f"--tensorflow_session_config_file={tmp_path}/session.config"):
        error = np.abs(np.array(predicted(tmp_path, rows, flag)) - exact).max() / np.abs(exact).max()
        assert 1e-4 < error < 0.03, flag


def test_settings_of_a_session(tmp_path: Path) -> None:
    file = tmp_path / "session.config"
    file.write_text("intra_op_parallelism_threads: 3 allow_soft_placement: true")
    flags = ["--model_base_path=/m", f"--tensorflow_session_config_file={file}"]
    config = session_config(parse_flags([*flags, "--mixed_precision=bfloat16"]))
    assert config.intra_op_parallelism_threads == 3
    assert config.allow_soft_placement
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == 1


def test_a_wrong_session_config_ends_the_start(tmp_path: Path) -> None:
    """Before any load, which would be tried again and again."""
    saved_models.write_tagged(tmp_path / "m" / "1")
    config, file = tmp_path / "models.config", tmp_path / "session.config"
    model = f'name: "m" base_path: "{tmp_path}/m" model_platform: "tensorflow"'
    config.write_text(f"model_config_list {{ config {{ {model} }} }}")
    file.write_text("threads: 3")
    code, log = run_to_end(
        f"--model_config_file={config}",
        f"--tensorflow_session_config_file={file}",
        "--rest_api_port=0",
        f"--grpc_socket_path={tmp_path}/s",
    )
    assert code == 1
    assert f"--tensorflow_session_config_file {file} is no ConfigProto: 1:1 : " in log.splitlines()[-1]


def test_another_precision_is_refused() -> None:
    with pytest.raises(StartError, match="--mixed_precision: invalid choice: 'float16'"):
        parse_flags(["--model_base_path=/m", "--mixed_precision=float16"])
