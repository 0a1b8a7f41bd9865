"""Whether an index can be used: CREATE INDEX CONCURRENTLY that fails leaves one behind that only costs.

Such an index takes part in every write and in no read, and IF NOT EXISTS is content with it. PostgreSQL's page on
CREATE INDEX ("Building Indexes Concurrently") says what to do: drop it, and make it again.
"""

from __future__ import annotations

from typing import Literal

from nova_data.schema.database import ANSWER, Connection

State = Literal["missing", "valid", "invalid", "building"]


async def index_state(connection: Connection, table: str, index: str) -> State:
    """The state of an index of a table; `table` is quoted where it has to be, `index` is the bare name. An index that
    another session builds at this moment is invalid too, and is told apart."""
    found = await connection.fetchrow(
        "SELECT i.indisvalid AND i.indisready AS valid, p.pid IS NOT NULL AS building"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " LEFT JOIN pg_stat_progress_create_index p ON p.index_relid = i.indexrelid"
        " WHERE i.indrelid = to_regclass($1) AND c.relname = $2",
        table,
        index,
        timeout=ANSWER,
    )
    if found is None:
        return "missing"
    if found["valid"]:
        return "valid"
    return "building" if found["building"] else "invalid"
