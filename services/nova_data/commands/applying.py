"""What `nova-data apply` does once it has a connection."""

from __future__ import annotations

import argparse
from random import Random

from nova_api.database import DatabasePolicy
from nova_api.errors import ConfigError
from nova_api.model import decode_json
from nova_data.commands.changing import say
from nova_data.errors import SchemaError
from nova_data.outbox.installing import install as install_outbox
from nova_data.outbox.partitions import AHEAD
from nova_data.schema.database import Connection, alone
from nova_data.schema.files import read_folder
from nova_data.schema.indexes import build
from nova_data.schema.migrate import MIGRATORS, Migrator
from nova_data.schema.patience import Patience
from nova_data.schema.soft_delete import manage
from nova_data.schema.steps import Stepper


async def apply(given: argparse.Namespace, connection: Connection) -> int:
    """All of it. Raises DataError."""
    try:
        policy = decode_json(given.spec.encode(), DatabasePolicy)
    except ConfigError as error:
        raise SchemaError(f"--spec: {error}") from error
    patience = Patience(lock_timeout=policy.lock_timeout, timeout=policy.timeout)
    random = Random()  # noqa: S311 - jitter, no secret
    stepper = Stepper(connection, patience, random=random, say=say)
    if policy.migrations is not None:
        if given.folder is None:
            raise SchemaError("--spec has migrations: expected their folder in --folder")
        migrator = Migrator(connection, patience, random=random, say=say, service=given.service)
        done = await migrator.run(read_folder(given.folder))
        say(f"migrations: {len(done.applied)} applied, {done.before} were applied before")
    async with alone(connection, MIGRATORS, patience, random):
        await _outbox(policy, connection)
        await _soft_delete(policy, connection, stepper)
        findings = await build.look(connection, policy.indexes)
        await stepper.take(build.steps(findings))
    say("the database is as it should be")
    return 0


async def _outbox(policy: DatabasePolicy, connection: Connection) -> None:
    deletes = policy.soft_delete is not None and policy.soft_delete.events
    if policy.outbox is None and not deletes:
        return
    made = await install_outbox(connection, lock_timeout=policy.lock_timeout, ahead=AHEAD)
    say(f"outbox: {len(made)} partitions made")


async def _soft_delete(policy: DatabasePolicy, connection: Connection, stepper: Stepper) -> None:
    wanted = policy.soft_delete
    if wanted is None:
        return
    wish = await manage.wish(connection, wanted.mode, events=wanted.events)
    count = await manage.install(connection, wanted.tables, wish, stepper)
    say(f"soft delete: {count} steps")
