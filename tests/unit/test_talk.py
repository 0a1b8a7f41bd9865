"""What became of a chat: judged by what each should have heard."""

from nova_services.talk import judge

WHOLE = [(1, "a"), (2, "b"), (3, "c")]


def test_all_is_well() -> None:
    assert judge(["a", "b", "c"], [WHOLE, WHOLE]) == {"said": 3, "lost": [], "doubled": [], "disordered": 0}


def test_what_one_of_them_did_not_hear_is_lost() -> None:
    assert judge(["a", "b", "c"], [WHOLE, WHOLE[:2]])["lost"] == ["c"]


def test_what_came_twice_to_one_of_them_is_doubled() -> None:
    assert judge(["a", "b", "c"], [WHOLE, [*WHOLE, (3, "c")]])["doubled"] == ["c"]


def test_a_text_at_two_positions_is_doubled() -> None:
    assert judge(["a", "b", "c"], [[*WHOLE, (4, "a")]])["doubled"] == ["a"]


def test_positions_that_do_not_grow_are_out_of_order() -> None:
    assert judge(["a", "b", "c"], [WHOLE, [(1, "a"), (3, "c"), (2, "b")]])["disordered"] == 1
