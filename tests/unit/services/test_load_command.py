"""The load client's command line: a wrong figure is refused instead of giving a run that means something else."""

import pytest

from nova_services.load import main


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("run http://a --rate 0", "--rate: expected more than 0 and at most 20000 requests a second, got '0'"),
        ("run http://a --rate nan", "--rate: expected more than 0"),
        ("run http://a --seconds long", "--seconds: expected more than 0 and at most 600 seconds, got 'long'"),
        ("run http://a --rate 20000 --seconds 11", "--rate times --seconds: expected at most 200000 requests in all"),
        ("call http://a --header x-test", "--header: expected NAME:VALUE, got 'x-test'"),
        ("call", "required: url"),
    ],
)
def test_a_wrong_option_is_named_with_its_rule(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert (ended.value.code, says in capsys.readouterr().err) == (2, True)
