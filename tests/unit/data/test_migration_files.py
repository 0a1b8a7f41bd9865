from pathlib import Path

import pytest

from nova_data.errors import MigrationError
from nova_data.schema.agenda import agenda
from nova_data.schema.files import Migration, migration, read_folder
from nova_data.schema.ledger import Entry


def folder(*numbers: int) -> tuple[Migration, ...]:
    return tuple(migration(f"{number:04}_x.sql", number, f"SELECT {number};") for number in numbers)


def applied(*numbers: int) -> tuple[Entry, ...]:
    return tuple(
        Entry(version=one.version, file=one.file, checksum=one.checksum, state="applied") for one in folder(*numbers)
    )


def test_a_folder_is_read_in_the_order_of_numbers(tmp_path: Path) -> None:
    (tmp_path / "0010_b.sql").write_text("SELECT 10")
    (tmp_path / "0002_a.sql").write_text("-- nova: no-transaction\nSELECT 2; SELECT 'a;b'; -- last\n")
    (tmp_path / "README.md").write_text("not ours")
    first, second = read_folder(tmp_path)
    assert (first.version, first.transactional, len(first.statements)) == (2, False, 2)
    assert (second.version, second.transactional, second.statements[0].sql) == (10, True, "SELECT 10")


def test_a_file_from_another_system_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "0001_x.sql").write_bytes(b"\xef\xbb\xbfSELECT 1;\r\nSELECT 2;\r\n")
    (one,) = read_folder(tmp_path)
    assert one.checksum == migration("0001_x.sql", 1, "SELECT 1;\nSELECT 2;\n").checksum


def test_statements_carry_the_line_of_their_first_word() -> None:
    function = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$\nSELECT 1; $$"
    text = f"-- why\n\nSELECT 1;\n/* a;\n b */ {function};\nSELECT 'é';SELECT 3"
    found = migration("0001_x.sql", 1, text).statements
    assert [one.line for one in found] == [3, 5, 7, 7]
    assert [one.sql for one in found[2:]] == ["SELECT 'é'", "SELECT 3"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "at least one statement"),
        ("-- only a comment\n", "at least one statement"),
        ("SELECT 1;\nselec 2;", "line 2: syntax error at or near"),
        ("BEGIN; SELECT 1; COMMIT;", "statement 1 (line 1): BEGIN, COMMIT and ROLLBACK are left to Nova"),
        ("SELECT 1;\nCREATE INDEX CONCURRENTLY i ON t (a);", "statement 2 (line 2): cannot run in a transaction"),
        ("VACUUM t", "no-transaction"),
        ("-- nova: no-transaction\nCREATE INDEX CONCURRENTLY ON t (a)", "give the index a name"),
        ("-- nova: no-transactions\nSELECT 1", "expected may-block or no-transaction after"),
        ("SELECT 1;\n-- nova: no-transaction\nSELECT 2", "line 2: `-- nova:` belongs at the head"),
        ("COPY t FROM STDIN", "COPY FROM STDIN has no data here"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(text: str, rule: str) -> None:
    with pytest.raises(MigrationError) as raised:
        migration("0001_x.sql", 1, text)
    assert "0001_x.sql" in str(raised.value)
    assert rule in str(raised.value)


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({"1_x.sql": "SELECT 1"}, "1_x.sql: expected a name such as 0007_add_state.sql"),
        ({"0001_X.sql": "SELECT 1"}, "in lower case"),
        ({"0001_a.sql": "SELECT 1", "0001_b.sql": "SELECT 2"}, "0001_b.sql: 0001_a.sql has the same number"),
        ({"0001_a.sql": b"SELECT '\xff'"}, "0001_a.sql: cannot be read as UTF-8"),
        ({"0001_a.sql": b"-" * (1024 * 1024 + 1)}, "expected at most 1048576 bytes"),
        ({"notes.txt": "SELECT 1"}, "found no .sql file"),
    ],
)
def test_a_folder_that_is_none_names_the_file_and_the_rule(
    tmp_path: Path, files: dict[str, str | bytes], rule: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MigrationError) as raised:
        read_folder(tmp_path)
    assert rule in str(raised.value)


def test_a_folder_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="expected a folder with migrations"):
        read_folder(tmp_path / "nowhere")


def test_what_was_applied_is_not_applied_again() -> None:
    todo = agenda(folder(1, 2, 3), applied(1, 2))
    assert [step.migration.version for step in todo.steps] == [3]
    assert (todo.applied, todo.ahead) == (2, ())


def test_a_database_that_is_ahead_has_nothing_to_do() -> None:
    todo = agenda(folder(1, 2), applied(1, 2, 3))
    assert (todo.steps, todo.ahead) == ((), ("0003_x.sql",))


def test_another_file_under_the_number_of_an_applied_one_is_not_taken_for_it() -> None:
    """To accept its content would be to leave it out for good."""
    with pytest.raises(MigrationError, match=r"0001_y.sql: 0001_x.sql was applied under this number; .* --service"):
        agenda((migration("0001_y.sql", 1, "SELECT 'other'"),), applied(1))


def test_a_changed_file_is_refused_with_what_to_do() -> None:
    changed = migration("0001_x.sql", 1, "SELECT 'other'")
    with pytest.raises(MigrationError, match=r"another content .* put the old content back .* --accept 1"):
        agenda((changed,), applied(1))


def test_a_file_that_is_missing_or_comes_late_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0002_x.sql was applied on .* and is missing"):
        agenda(folder(1, 3), applied(1, 2))
    with pytest.raises(MigrationError, match=r"0002_x.sql: number 3 was applied before it; give it a number above 3"):
        agenda(folder(1, 2, 3), applied(1, 3))


def halfway(text: str, done: int) -> tuple[Migration, Entry]:
    one = migration("0001_x.sql", 1, f"-- nova: no-transaction\n{text}")
    return one, Entry(
        version=1, file=one.file, checksum=one.checksum, state="failed", done=done, done_checksum=one.checksum_of(done)
    )


def test_a_file_without_transaction_goes_on_where_it_ended() -> None:
    one, entry = halfway("SELECT 1; SELECT 2; SELECT 3", 2)
    assert agenda((one,), (entry,)).steps[0].done == 2
    corrected, _ = halfway("SELECT 1; SELECT 2; SELECT 'corrected'", 2)
    assert agenda((corrected,), (entry,)).steps[0].done == 2


def test_but_what_stands_of_it_must_be_as_it_was() -> None:
    _, entry = halfway("SELECT 1; SELECT 2; SELECT 3", 2)
    changed, _ = halfway("SELECT 1; SELECT 'changed'; SELECT 3", 2)
    with pytest.raises(MigrationError, match="its first 2 statements were applied"):
        agenda((changed,), (entry,))


def test_a_transaction_that_failed_is_tried_again_from_its_beginning() -> None:
    entry = Entry(version=1, file="0001_x.sql", checksum="another", state="failed", statement=1, error="no")
    assert agenda(folder(1), (entry,)).steps[0].done == 0
