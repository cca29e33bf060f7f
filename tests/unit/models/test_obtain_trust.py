"""tasks.lib.models.obtain: checksums, remembered archives, and secrets in addresses."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import replace

import pytest

from tasks.lib.common.errors import DownloadError
from tasks.lib.common.settings import Settings
from tasks.lib.models import digests, obtain
from tests.helpers.archives import saved_model, tree
from tests.helpers.bringing import ARCHIVE, VERSION, catalogue, got, nothing_left
from tests.helpers.fileserver import Server


def test_a_wrong_checksum_is_refused(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/model", ARCHIVE)
    with pytest.raises(DownloadError) as caught:
        obtain.from_url(settings, "mine", url, "0" * 64)
    real = hashlib.sha256(ARCHIVE).hexdigest()
    assert caught.value.problem == f"The file at {url} has SHA-256 {real}, not {'0' * 64} as --sha256 says."
    assert not settings.paths.models.exists()


def test_the_catalogues_checksum_is_checked(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/resnet.tar.gz", ARCHIVE)
    catalogue(settings, url, f"sha256 = '{'0' * 64}'")
    with pytest.raises(DownloadError, match=r"as .*catalog\.toml says"):
        obtain.ensure(settings, "resnet")
    assert nothing_left(settings)
    catalogue(settings, url, f"sha256 = '{hashlib.sha256(ARCHIVE).hexdigest().upper()}'")
    obtain.ensure(settings, "resnet")


def remove(settings: Settings, name: str) -> None:
    subprocess.run(["rm", "-r", settings.paths.models / name], check=True)


def test_what_a_url_gave_first_is_remembered(settings: Settings, server: Server) -> None:
    url, resource = server.serve("/model", ARCHIVE)
    other, _ = server.serve("/other", saved_model("2"))
    obtain.from_url(settings, "mine", url)
    obtain.from_url(settings, "mine", other)
    remove(settings, "mine")
    resource.content = saved_model(seed=2)
    with pytest.raises(DownloadError, match="when it was first downloaded") as caught:
        obtain.from_url(settings, "mine", url)
    record = digests.path(settings.paths)
    assert f"remove the line of this address from {record}" in caught.value.remedy
    assert tree(settings.paths.models) == ["digests.json"]
    for line in [line for line in record.read_text().splitlines() if url in line or other in line]:
        record.write_text(record.read_text().replace(line + "\n", ""))  # either of them is the last one once
        digests.read(settings.paths)
    obtain.from_url(settings, "mine", url)
    assert digests.read(settings.paths)[url].sha256 == hashlib.sha256(resource.content).hexdigest()


def test_a_given_checksum_is_stronger_than_the_memory(settings: Settings, server: Server) -> None:
    url, resource = server.serve("/model", ARCHIVE)
    obtain.from_url(settings, "mine", url)
    remove(settings, "mine")
    resource.content = saved_model(seed=2)
    sha256 = hashlib.sha256(resource.content).hexdigest()
    obtain.from_url(settings, "mine", url, sha256)
    assert digests.read(settings.paths)[url].sha256 == sha256


def test_a_checksum_is_held_against_what_is_there(settings: Settings, server: Server) -> None:
    url, resource = server.serve("/model", ARCHIVE)
    sha256 = hashlib.sha256(ARCHIVE).hexdigest()
    model = obtain.from_url(settings, "mine", url, sha256)
    assert obtain.from_url(settings, "mine", url, sha256) == model
    with pytest.raises(
        DownloadError, match=f"mine@{VERSION} is there already, from an archive with SHA-256 {sha256}"
    ):
        obtain.from_url(settings, "mine", url, "0" * 64)
    assert len(resource.requests) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"http://x": 1}', '{"http://x": {"sha256": "1"}}'])
def test_a_damaged_memory_is_told(settings: Settings, server: Server, text: str) -> None:
    settings.paths.models.mkdir()
    digests.path(settings.paths).write_text(text)
    with pytest.raises(DownloadError, match=r"digests\.json is damaged"):
        obtain.from_url(settings, "mine", server.serve("/model", ARCHIVE)[0])
    assert tree(settings.paths.models) == ["digests.json"]


def test_the_memory_is_json_with_a_line_for_each_url(settings: Settings) -> None:
    settings.paths.models.mkdir()
    for url in ("http://b", "http://a", "http://a"):
        digests.record(settings.paths, url, "1" * 64)
    lines = digests.path(settings.paths).read_text().splitlines()
    assert [line.strip()[:10] for line in lines] == ["{", '"http://a"', '"http://b"', "}"]
    assert set(json.loads("\n".join(lines))["http://a"]) == {"sha256", "seen"}


def test_secrets_in_the_address_are_not_written_down(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/model", ARCHIVE)
    model = got(obtain.from_url(settings, "mine", url.replace("//", "//user:secret@")))
    assert model.origin.address == url
    assert "secret" not in digests.path(settings.paths).read_text()


def test_secrets_in_the_catalogue_are_not_shown(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(settings, "http://user:secret@host/x")
    obtain.ensure(replace(settings, dry=True), "resnet")
    assert "would download http://host/x" in capsys.readouterr().err
