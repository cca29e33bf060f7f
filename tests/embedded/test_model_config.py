"""Which models a configuration file names, and what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from embedded_server.common.errors import InvalidArgument
from embedded_server.config.model_config import ModelConfig, read_config_file
from embedded_server.config.versions import All, Latest, Specific
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

MODEL = 'name: "m" base_path: "/m" model_platform: "tensorflow"'


def read(tmp_path: Path, *models: str) -> tuple[ModelConfig, ...]:
    file = tmp_path / "models.config"
    file.write_text("model_config_list {" + "".join(f"config {{ {model} }}" for model in models) + "}")
    return read_config_file(file)


def test_a_model_as_the_file_has_it(tmp_path: Path) -> None:
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    policy = "model_version_policy { specific { versions: 1 versions: 2 } }"
    (model,) = read(tmp_path, f"{MODEL} {policy} {labels}")
    assert model == ModelConfig(
        "m", Path("/m"), Path("/m/.optimized"), Specific(frozenset({1, 2})), {"stable": 1, "canary": 2}
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", Latest(1)),
        ("model_version_policy { latest { num_versions: 3 } }", Latest(3)),
        ("model_version_policy { latest { num_versions: 0 } }", Latest(1)),
        ("model_version_policy { all {} }", All()),
    ],
)
def test_policies(tmp_path: Path, text: str, policy: object) -> None:
    assert read(tmp_path, f"{MODEL} {text}")[0].policy == policy


def test_policies_choose() -> None:
    versions = {number: Path(str(number)) for number in (3, 20, 100)}
    assert set(Latest(2).choose(versions)) == {20, 100}
    assert set(Latest(5).choose(versions)) == set(All().choose(versions)) == {3, 20, 100}
    assert Specific(frozenset({3, 4})).choose(versions) == {3: Path("3")}
    assert Latest().choose({}) == {}


def test_several_models_of_the_old_spelling_and_none(tmp_path: Path) -> None:
    models = read(tmp_path, MODEL, 'name: "n" base_path: "/n" model_type: TENSORFLOW logging_config {}')
    assert [model.name for model in models] == ["m", "n"]
    assert read(tmp_path) == ()


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["name: 3"], "is no ModelServerConfig: 1:35 : "),
        ([MODEL, MODEL], "Illegal to list model m multiple times"),
        (['base_path: "/m" model_platform: "tensorflow"'], "has no name"),
        (['name: "m" model_platform: "tensorflow"'], "absolute path; got base_path: ''"),
        (['name: "m" base_path: "m" model_platform: "tensorflow"'], "absolute path; got base_path: 'm'"),
        (['name: "m" base_path: "/m"'], 'has no model_platform: "tensorflow"'),
        (['name: "m" base_path: "/m" model_platform: "onnx"'], "requests unsupported platform onnx"),
        (['name: "m" base_path: "/m" model_platform: "tflite"'], "requests unsupported platform tflite"),
        (['name: "m" base_path: "/m" model_type: OTHER'], "requests unsupported platform other"),
        ([f"{MODEL} model_type: TENSORFLOW"], "Illegal setting both"),
        ([f"{MODEL} model_version_policy {{ specific {{}} }}"], "without versions"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, models: list[str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(message)) as error:
        read(tmp_path, *models)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="none: No such file"):
        read_config_file(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(InvalidArgument, match="is no text"):
        read_config_file(tmp_path / "binary")
    (tmp_path / "custom").write_text("custom_model_config {}")
    with pytest.raises(InvalidArgument, match="custom_model_config cannot be served"):
        read_config_file(tmp_path / "custom")
    (tmp_path / "list").write_text("custom_model_config_list {}")
    with pytest.raises(InvalidArgument, match="custom_model_config_list"):
        read_config_file(tmp_path / "list")


KEYS = {
    "name": 'name: "m"',
    "base_path": 'base_path: "/m"',
    "model_type": "model_type: TENSORFLOW",
    "model_platform": 'model_platform: "tensorflow"',
    "model_version_policy": "model_version_policy { all {} }",
    "version_labels": 'version_labels { key: "stable" value: 1 }',
    "logging_config": "logging_config { sampling_config { sampling_rate: 0.1 } }",
}


def test_every_key_of_a_model_is_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key that a later release of the published messages adds has to be looked at."""
    assert set(KEYS) == set(model_server_config_pb2.ModelConfig.DESCRIPTOR.fields_by_name)
    keys = [text for key, text in KEYS.items() if key != "model_type"]
    assert read(tmp_path, " ".join(keys)) == (
        ModelConfig("m", Path("/m"), Path("/m/.optimized"), All(), {"stable": 1}),
    )
    assert caplog.messages == ["The logging_config of model m is ignored: requests are not logged"]
    policies = file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
    assert set(policies.DESCRIPTOR.fields_by_name) == {"latest", "all", "specific"}
    kinds = model_server_config_pb2.ModelServerConfig.DESCRIPTOR.fields_by_name
    assert set(kinds) == {"model_config_list", "custom_model_config"}
