"""Data tools for the services themselves: what has to happen in the app's own process or next to its database.

    pool_guard   sheds load while a database pool is full, and tells the sidecar, so that it is shed at the pod's door
    pool         a whole pool, with what else it needs
    split        sends reads to replicas
    calls        makes one call of several
    cache        keeps what need not be asked again
    outbox       events in the transaction of what they tell of, and the relay that brings them to Kafka
    consumer     handles them: nothing lost, and in order
    dedup        an event that comes twice has its effect once
    event_store  state that is a sequence of events
    schema       changes of a database while it is in use
    commands     the command `nova-data`, whose sub-commands these are

What several of them need stands beside them: `backoff`, `breaker`, `correlation`, `headers`, `database`, `logs`,
`pages`, and `errors`, one family for all.

The package may import `nova_api` for names that both sides agree on, and no other part of Nova; nothing of it needs a
sidecar to work.
"""
