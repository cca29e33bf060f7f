"""Which models are served: one by the flags, or several by a file.

The file is a ModelServerConfig in protobuf's text format (tensorflow_serving/config/
model_server_config.proto). What TensorFlow Serving refuses in it is refused here too
(model_servers/server_core.cc, ValidateModelConfigList).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from embedded_server.common.errors import InvalidArgument
from embedded_server.config.flags import Flags
from embedded_server.config.versions import All, Latest, Specific, VersionPolicy, check_versions

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig as ModelConfigProto
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

_OPTIMIZED = ".optimized"  # below the base path, where the task runner puts the artefacts
_PLATFORM = "tensorflow"
_TENSORFLOW_TYPE = 1  # ModelType.TENSORFLOW, the deprecated way to say the same

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelConfig:
    """One model.

    base_path: the folder with one numeric folder for each version.
    optimized_base_path: the folder with the artefact of each version.
    labels: label -> version number.
    """

    name: str
    base_path: Path
    optimized_base_path: Path
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)


def configured_models(flags: Flags) -> tuple[ModelConfig, ...]:
    """The models that the flags or their file name.

    Raises InvalidArgument for a wrong file, StartError where the flags name a version that is not there.
    """
    if flags.model_config_file is not None:
        return read_config_file(flags.model_config_file)
    base_path = flags.model_base_path
    assert base_path is not None  # parse_flags asks for one of the two
    check_versions(base_path, flags.model_version)
    policy = Latest() if flags.model_version is None else Specific(frozenset({flags.model_version}))
    optimized = flags.optimized_base_path or base_path / _OPTIMIZED
    return (ModelConfig(flags.model_name, base_path, optimized, policy),)


def read_config_file(file: Path) -> tuple[ModelConfig, ...]:
    """The models of a configuration file. Raises InvalidArgument where it cannot be read or is wrong."""
    # Imported here: most servers have no such file.
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    try:
        text = file.read_text()
    except OSError as error:
        raise InvalidArgument(f"--model_config_file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"--model_config_file {file} is no text: {error}") from error
    message = ModelServerConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise InvalidArgument(f"--model_config_file {file} is no ModelServerConfig: {error}") from error
    return models_of(message)


def models_of(message: ModelServerConfig) -> tuple[ModelConfig, ...]:
    """The models of a ModelServerConfig. Raises InvalidArgument for what cannot be served."""
    if message.WhichOneof("config") == "custom_model_config":
        raise InvalidArgument("custom_model_config cannot be served: list the models in model_config_list")
    models = tuple(_model_of(config) for config in message.model_config_list.config)
    for name, count in Counter(model.name for model in models).items():
        if count > 1:
            raise InvalidArgument(f"Illegal to list model {name} multiple times in config list")
    return models


def _model_of(config: ModelConfigProto) -> ModelConfig:
    if not config.name:
        raise InvalidArgument("a model in the config list has no name")
    _check_platform(config)
    base_path = Path(config.base_path)
    if not base_path.is_absolute():
        raise InvalidArgument(
            f"Expected model {config.name} to have an absolute path; got base_path: {config.base_path!r}"
        )
    if config.HasField("logging_config"):
        _log.warning("The logging_config of model %s is ignored: requests are not logged", config.name)
    policy, labels = _policy_of(config), dict(config.version_labels)
    return ModelConfig(config.name, base_path, base_path / _OPTIMIZED, policy, labels)


def _check_platform(config: ModelConfigProto) -> None:
    if config.model_type and config.model_platform:
        raise InvalidArgument(
            f"model {config.name}: Illegal setting both model_type(deprecated) and model_platform."
        )
    if not config.model_type and not config.model_platform:
        raise InvalidArgument(f'model {config.name} has no model_platform: "{_PLATFORM}"')
    if config.model_platform != _PLATFORM and config.model_type != _TENSORFLOW_TYPE:
        platform = config.model_platform or "other"
        raise InvalidArgument(
            f"Model {config.name} requests unsupported platform {platform}; {_PLATFORM} is the only one"
        )


def _policy_of(config: ModelConfigProto) -> VersionPolicy:
    policy = config.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return All()
    if choice == "specific":
        if not policy.specific.versions:
            raise InvalidArgument(f"model {config.name} has a specific version policy without versions")
        return Specific(frozenset(policy.specific.versions))
    return Latest(max(policy.latest.num_versions, 1))
