"""Loads and unloads versions as they come and go on disk, in a thread of its own.

The rules are TensorFlow Serving's (core/aspired_versions_manager.cc, core/loader_harness.cc,
core/availability_preserving_policy.cc): the folders below a base path are looked at every second, the
policy of the model says which of them are *aspired*, a new version is loaded before the old one goes, and
a failed load is tried again. In three things this server is kinder: a failed load does not hold up others
while it waits, shows its error while it is tried again, and is tried again as soon as the version's files
change, as they do while they are being copied.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from embedded_server.common.errors import DeadlineExceeded, FailedPrecondition, ServingError, StartError
from embedded_server.common.metrics import Metrics
from embedded_server.config.flags import Flags
from embedded_server.config.model_config import ModelConfig, read_config_file
from embedded_server.config.versions import Specific, list_versions
from embedded_server.execution.servable import Loaded, Models, VersionStatus, View
from embedded_server.lifecycle.loading import load_servable, unload
from embedded_server.lifecycle.managed import Version, superfluous

_KEPT_ENDS = 100  # ended versions of a model in the status: enough to see what happened

_log = logging.getLogger(__name__)


class Manager:
    """Keeps `models` as the configuration and the disk want it."""

    def __init__(
        self, models: Models, flags: Flags, configs: Sequence[ModelConfig], metrics: Metrics
    ) -> None:
        """metrics: where loading is counted.

        Raises FailedPrecondition for labels of versions that are not available; see apply.
        """
        self._models = models
        self._flags = flags
        self._metrics = metrics
        self._one_attempt = flags.model_config_file is None
        self._lock = threading.Lock()  # of what apply changes
        self._configs: Mapping[str, ModelConfig] = {}
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._config_error = ""
        self._warned: dict[str, str] = {}
        self._next_look: float | None = 0.0
        self._next_read: float | None = None
        self._generation = 0  # of the configuration, and the one that the disk was last looked at with
        self._seen = 0
        self._wanted: Mapping[str, Sequence[VersionStatus]] = {}
        self._stopped = False
        self.looks = 0
        """How often the disk was looked at."""
        self._wake = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="versions", daemon=True)
        self.apply(configs)

    def start(self) -> None:
        """Begin to look and to load."""
        if self._flags.model_config_file is not None:
            self._schedule_read()
        self._thread.start()

    def stop(self) -> None:
        """Load nothing more; what is loaded stays so."""
        self._stopped = True
        self._wake.set()
        self._thread.join()

    def wait_until_served(self) -> None:
        """Wait until each model has a version that is available.

        Raises StartError where that cannot come to be. A model that the flags name has one attempt, so that
        the person who types them need not wait for the retries.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._are_served(self._configs, self._one_attempt))

    def reload(self, configs: Sequence[ModelConfig], patience: float) -> None:
        """Serve these models from now on, and wait until those that are new are available.

        patience: seconds to wait at most.

        Raises FailedPrecondition as apply does, and where a new model cannot be loaded; DeadlineExceeded.
        """
        new = [config.name for config in configs if config.name not in self._configs]
        self.apply(configs)
        try:
            with self._changed:
                served = self._changed.wait_for(lambda: self._are_served(new, False), patience)
        except StartError as error:
            raise FailedPrecondition(str(error)) from error
        if not served:
            raise DeadlineExceeded(f"not all models were available within {patience:.0f} s")

    def _are_served(self, names: Iterable[str], one_attempt: bool) -> bool:
        """Has each model a version that is available? Raises StartError where it will never have one."""
        if self._seen < self._generation:
            return False  # what is known is known of another configuration
        waiting = False
        for name in names:
            numbers = self._wanted.get(name, ())
            if any(status.state == "AVAILABLE" for status in numbers):
                continue
            waiting = True
            failed = [s for s in numbers if s.error_code != "OK" and (one_attempt or s.state == "END")]
            if numbers and len(failed) == len(numbers):
                raise StartError(failed[0].error_message)
            if not numbers and self._next_look is None and name in self._warned:
                raise StartError(self._warned[name])
        return not waiting

    def apply(self, configs: Iterable[ModelConfig]) -> None:
        """Serve these models from now on; may be called from any thread.

        Raises FailedPrecondition, and changes nothing, for a label of a version that is not available.
        """
        configured = {config.name: config for config in configs}
        with self._lock:
            for config in configured.values():
                self._check_labels(config)
            self._configs = configured
            self._labels = {config.name: config.labels for config in configured.values() if config.labels}
            self._next_look = 0.0
            self._generation += 1
            view = self._models.view
            self._models.show(View(view.served, view.statuses, self._labels))
        self._wake.set()

    def _check_labels(self, config: ModelConfig) -> None:
        """The rules of ServerCore::UpdateModelVersionLabelMap."""
        statuses = self._models.view.statuses.get(config.name, {})
        present = self._labels.get(config.name, {})
        for label, number in config.labels.items():
            status = statuses.get(number)
            available = status is not None and status.state == "AVAILABLE"
            moved = present.get(label, number) != number
            if not available and (moved or not self._flags.allow_version_labels_for_unavailable_models):
                hint = "" if moved else "; --allow_version_labels_for_unavailable_models allows it"
                raise FailedPrecondition(
                    f"Request to assign label {label} to version {number} of model {config.name}, which is "
                    f"not currently available for inference{hint}"
                )

    # ---------------------------------------------------------------------------------- the thread

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._wake.clear()
                self._read_config_file()
                self._look()
                if not self._act():
                    self._wake.wait(self._pause())
            except Exception:  # a bug of ours must not be the end of all reloading
                _log.exception("Managing versions failed")
                time.sleep(1)

    def _pause(self) -> float | None:
        """Seconds until there is something to do without being woken."""
        times = [self._next_look, self._next_read]
        times += [version.retry_at for version in self._all() if version.aspired]
        due = [moment for moment in times if moment is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _all(self) -> list[Version]:
        return [version for versions in self._versions.values() for version in versions.values()]

    def _show(self) -> None:
        """Publish the state of the versions."""
        served = {
            name: {version.number: version.loaded for version in versions.values() if version.loaded}
            for name, versions in self._versions.items()
        }
        statuses = {
            name: {version.number: version.status for version in versions.values()}
            for name, versions in self._versions.items()
        }
        with self._lock:
            self._models.show(View(served, statuses, self._labels))
        with self._changed:
            self._wanted = {
                name: [version.status for version in versions.values() if version.aspired]
                for name, versions in self._versions.items()
            }
            self._changed.notify_all()

    # ------------------------------------------------------------------------- what is to be served

    def _schedule_read(self) -> None:
        wait = self._flags.model_config_file_poll_wait
        self._next_read = time.monotonic() + wait if wait else None

    def _read_config_file(self) -> None:
        if self._next_read is None or self._next_read > time.monotonic():
            return
        self._schedule_read()
        assert self._flags.model_config_file is not None
        try:
            configs = read_config_file(self._flags.model_config_file)
            if {config.name: config for config in configs} != self._configs:
                self.apply(configs)
                _log.info("Changed to the models in %s", self._flags.model_config_file)
            self._config_error = ""
        except ServingError as error:
            if str(error) != self._config_error:
                _log.error("The models stay as they were: %s", error)
            self._config_error = str(error)

    def _look(self) -> None:
        """Find out which versions are aspired, if it is time to."""
        with self._lock:
            now = time.monotonic()
            if self._next_look is None or self._next_look > now:
                return
            wait = self._flags.file_system_poll_wait
            self._next_look = now + wait if wait else None
            configs, generation = self._configs, self._generation
        for name in self._versions.keys() - configs.keys():
            self._aspire(name, {}, None)
        for config in configs.values():
            chosen = self._choose(config)
            if chosen is not None:
                self._aspire(config.name, chosen, config)
        for version in self._all():
            if version.failed and version.aspired:
                self._look_again(version)
        self.looks += 1
        self._seen = generation
        self._show()

    def _choose(self, config: ModelConfig) -> dict[int, Path] | None:
        """The versions to be served; None if they are not known, and everything stays as it is."""
        try:
            versions = list_versions(config.base_path)
        except OSError as error:
            self._warn(config.name, f"Could not find base path {config.base_path}: {error.strerror}")
            return None
        chosen = config.policy.choose(versions)
        missing = ""
        if isinstance(config.policy, Specific):
            missing = ", ".join(map(str, sorted(config.policy.numbers - chosen.keys())))
        if missing:
            self._warn(config.name, f"Version {missing} was not found under base path {config.base_path}")
        elif not chosen:
            self._warn(
                config.name,
                f"No versions of servable {config.name} found under base path {config.base_path}: its "
                "folders must be named by numbers, such as 1",
            )
        else:
            self._warned.pop(config.name, None)
        return chosen

    def _warn(self, about: str, message: str) -> None:
        """Log it once, and not every second."""
        if self._warned.get(about) != message:
            _log.warning("%s", message)
            self._warned[about] = message

    def _aspire(self, name: str, chosen: Mapping[int, Path], config: ModelConfig | None) -> None:
        versions = self._versions.setdefault(name, {})
        for version in versions.values():
            version.aspired = version.aspired and version.number in chosen
            if not version.aspired and version.state in ("START", "LOADING"):  # or waiting for that
                version.state, version.retry_at = "END", None
        for number, folder in chosen.items():
            assert config is not None
            known = versions.get(number)
            if known is not None and known.state == "AVAILABLE":
                if known.folder != folder:
                    self._warn(
                        f"{name} {number}", f"Version {number} of {name} stays the one from {known.folder}"
                    )
                known.aspired = True
            elif known is None or (
                known.state != "UNLOADING" and (not known.aspired or known.folder != folder)
            ):
                versions[number] = Version(config, number, folder)
        ended = sorted(number for number, version in versions.items() if not version.aspired)
        for number in ended[:-_KEPT_ENDS]:
            if versions[number].state == "END":
                del versions[number]

    def _look_again(self, version: Version) -> None:
        """Load a failed version again at once if its files have changed, and change no more."""
        present = version.files()
        if present != version.failed_with and present == version.last_seen:
            version.failures, version.retry_at = 0, time.monotonic()
        version.last_seen = present

    # ------------------------------------------------------------------------- loading and unloading

    def _act(self) -> bool:
        """Do the next thing there is to do. Returns whether there was any."""
        now = time.monotonic()
        for version in self._all():
            if version.idle:
                self._finish_unloading(version)
                return True
        for versions in self._versions.values():
            dropped = superfluous(versions.values())
            if dropped is not None:
                self._begin_unloading(dropped)
                return True
        waiting = [version for version in self._all() if version.to_be_loaded(now)]
        if waiting:
            self._load(max(waiting, key=lambda version: version.number))
        return bool(waiting)

    def _load(self, version: Version) -> None:
        version.state, version.retry_at = "LOADING", None
        self._show()
        version.failed_with = version.last_seen = version.files()
        try:
            servable = load_servable(
                self._flags, self._metrics, version.model, version.number, version.folder
            )
        except (StartError, ServingError) as error:
            self._fail(version, getattr(error, "code", FailedPrecondition.code), str(error))
        except Exception as error:
            _log.exception("Loading %s failed", version.folder)
            self._fail(version, "INTERNAL", f"cannot load {version.folder}: {error}")
        else:
            version.loaded = Loaded(servable)
            version.state, version.error_code, version.error_message = "AVAILABLE", "OK", ""
            version.failures = 0
        self._show()

    def _fail(self, version: Version, code: str, message: str) -> None:
        version.error_code, version.error_message = code, message
        version.failures += 1
        again = version.failures <= self._flags.max_num_load_retries
        if again:
            version.retry_at = time.monotonic() + self._flags.load_retry_interval
        else:
            version.state = "END"
        _log.error(
            "Servable version {name: %s version: %d} cannot be loaded%s: %s",
            version.model.name,
            version.number,
            "" if again else ", and is given up",
            message,
        )

    def _begin_unloading(self, version: Version) -> None:
        loaded = version.loaded
        assert loaded is not None
        version.state, version.loaded, version.leaving = "UNLOADING", None, loaded.servable
        self._show()  # before it is retired, or who looks for it would find it for ever

        def note() -> None:
            version.idle = True
            self._wake.set()

        loaded.retire(note)

    def _finish_unloading(self, version: Version) -> None:
        assert version.leaving is not None
        servable, version.leaving, version.idle = version.leaving, None, False
        unload(servable)
        version.state = "END"
        with self._lock:
            self._next_look = 0.0  # meanwhile it may be wanted again
        self._show()
