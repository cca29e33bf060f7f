"""What is wrong is refused, whatever it is; malformed.py does the same for much longer."""

from __future__ import annotations

import attacks
import malformed
from running import Server


def test_nothing_that_is_sent_breaks_the_server(module_server: Server) -> None:
    lines = len(module_server.log)
    target = attacks.Target(module_server, attacks.module_requests())
    malformed.attack(target, 500, first_seed=20)
    target.close()
    answers = target.statuses
    assert sum(count for (_, status), count in answers.items() if status == "400") > 100, answers
    assert sum(count for (_, status), count in answers.items() if status == "200") > 10, answers
    assert answers["gRPC tensors", "INVALID_ARGUMENT"] > 5, answers
    assert "Traceback" not in "".join(module_server.log[lines:])


def test_photos_that_are_none(photo_server: Server) -> None:
    target = attacks.Target(photo_server, attacks.photo_requests("photos"))
    malformed.attack(target, 100, first_seed=20)
    target.close()
    assert target.statuses["base64", "400"], target.statuses
