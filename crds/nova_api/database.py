"""The database of a service: what has to be so in it before a new version of the service runs.

The operator makes a Job of it, and the data tools (`nova-data`) do it.
"""

from typing import Annotated, Literal

from msgspec import Meta

from nova_api import patterns
from nova_api.forms import SecretName
from nova_api.model import Model, Rule
from nova_api.outbox import Outbox
from nova_api.units import Duration

TableName = Annotated[str, Meta(pattern=patterns.TABLE, max_length=127)]
IndexColumn = Annotated[str, Meta(pattern=patterns.INDEX_COLUMN, max_length=80)]
SOFT_DELETED = ("posts", "comments", "messages", "follows", "blocks", "media")
"""Tables that have soft delete when nobody names others."""


class Migrations(Model, frozen=True, kw_only=True):
    """SQL files such as 0001_users.sql, each applied once and in order, before new pods start."""

    config_map: SecretName | None = None
    """ConfigMap whose keys are the files."""

    image: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    """Image that has the files and `nova-data`, in place of configMap; the data tools' image otherwise."""

    path: Annotated[str, Meta(pattern=patterns.PATH, max_length=1024)] = "/migrations"
    """Folder of the files in that image."""

    rules = (
        Rule(
            cel="has(self.configMap) != has(self.image)",
            message="exactly one of configMap and image must be set",
            holds=lambda s: (s.config_map is None) != (s.image is None),
        ),
    )


class SoftDelete(Model, frozen=True, kw_only=True):
    """Rows that are deleted stay, and say when and by whom."""

    tables: Annotated[tuple[TableName, ...], Meta(min_length=1, max_length=64)] = SOFT_DELETED
    """Tables that have it."""

    mode: Literal["Convert", "Refuse"] = "Convert"
    """What becomes of DELETE: a soft deletion, or an error."""

    events: bool = True
    """Whether a deletion writes an event into the outbox, which is made where it is missing."""


class Index(Model, frozen=True, kw_only=True):
    """An index that is built while the table is in use."""

    table: TableName
    """Table it is on."""

    columns: Annotated[tuple[IndexColumn, ...], Meta(min_length=1, max_length=16)]
    """Columns, each with desc where it descends: created_at desc."""

    where: Annotated[str, Meta(min_length=1, max_length=512)] | None = None
    """Condition of a partial index, as SQL: deleted_at IS NULL."""

    name: Annotated[str, Meta(pattern=patterns.IDENTIFIER, max_length=50)] | None = None
    """Name of the index; made of table and columns when left out."""


class DatabasePolicy(Model, frozen=True, kw_only=True):
    """A PostgreSQL, and what has to be so in it before a new version of the service runs."""

    secret_ref: SecretName
    """Secret whose key `url` is postgresql://USER:PASSWORD@HOST:PORT/NAME, of PostgreSQL itself and not of a pooler for
    transactions."""

    migrations: Migrations | None = None
    """SQL files to apply."""

    soft_delete: SoftDelete | None = None
    """Soft delete of tables, after the migrations."""

    indexes: Annotated[tuple[Index, ...], Meta(max_length=64)] = ()
    """Indexes that there must be, after the migrations."""

    outbox: Outbox | None = None
    """Events for Kafka: their tables, after the migrations, and the relays that bring them there."""

    lock_timeout: Duration = Duration(0.5)
    """Longest wait for a lock of a table, as writers may have to wait behind it; it is tried again afterwards."""

    timeout: Duration = Duration(600)
    """Time for all of it, tries included."""

    rules = (
        Rule(
            cel="has(self.migrations) || has(self.softDelete) || has(self.outbox)"
            " || (has(self.indexes) && size(self.indexes) > 0)",
            message="at least one of migrations, softDelete, outbox and indexes must be set",
            holds=lambda s: s.migrations is not None or s.soft_delete is not None or bool(s.outbox or s.indexes),
        ),
        Rule(
            cel="duration(self.lockTimeout) >= duration('10ms') && duration(self.lockTimeout) <= duration('60s')"
            " && duration(self.timeout) > duration(self.lockTimeout)",
            message="lockTimeout must be from 10ms to 60s, and timeout longer than it",
            holds=lambda s: 0.01 <= s.lock_timeout <= 60 and s.timeout > s.lock_timeout,
        ),
    )
