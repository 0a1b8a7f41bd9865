"""An event store in PostgreSQL: what happened is written once and stays; what is, is computed from it.

    schema       the tables, and why reading them in order leaves nothing out
    installing   brings them into a database
    store        append with an expected version, read a stream, state with snapshots
    projection   tables that follow the events, to be rebuilt at any time
    audit        who did what, when

An append may write an outbox event in the same transaction (`nova_data.outbox`). docs/event-store.md is for users.
"""
