"""Deduplication: an event that arrives twice has its effect once.

Whoever sends at least once sends twice sooner or later, and whoever is killed between an effect and the commit of its
offset is handed the event again. So each event has an idempotency key, and a store remembers the keys whose effect
took place, 24 hours at least.

    key        what is stored of a key: a digest
    bloom      which keys this process may have seen: policy alone
    schema     the table in PostgreSQL, as SQL
    postgres   a key is a row in the effect's own transaction: exactly once in effect
    redis      a key is claimed, then confirmed: for effects that lie in no database; its head says what that cannot do
    metrics    what is counted

docs/deduplication.md is for users.
"""
