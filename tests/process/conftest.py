"""The fixtures are in tests/helpers/fixtures.py."""

from tests.helpers.fixtures import *  # noqa: F403
from tests.helpers.fixtures import _no_docker, _no_proxy_for_loopback  # noqa: F401
