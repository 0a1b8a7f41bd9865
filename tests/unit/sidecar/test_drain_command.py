"""`nova-sidecar drain` as a hook calls it; against a running sidecar it is a loopback test."""

import pytest

from nova_api import names
from nova_sidecar.drain import CONTROL, main


def test_it_asks_where_the_sidecar_listens() -> None:
    assert f"127.0.0.1:{names.CONTROL_PORT}" == CONTROL


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_it_always_gives_up_some_time(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--timeout={seconds}"])
    assert f"--timeout: expected seconds, more than 0, got '{seconds}'" in capsys.readouterr().err
