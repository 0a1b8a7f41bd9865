"""The transactional outbox: an event is written in the transaction of what it tells of, and a relay brings it to Kafka.

Whoever writes to a database and then sends a message loses one of the two sooner or later: a process that is killed in
between has changed something and told nobody. So the event is a row beside the change. It is there if, and only if, the
change is, and a relay sends what is there, as often as it takes.

    schema       the table, its partitions and functions, as SQL
    installing   brings them into a database
    partitions   which partitions there should be: policy alone
    retention    makes coming partitions and drops the old ones
    writer       for apps: `async with outbox(connection) as events: await events.append(…)`
    status       what waits, what failed, and how to let it go on
    relay        the process; its head says why events keep their order
    sending, housekeeping   what it does in a round, and between rounds
    event, rounds, policy, publisher, session, settings, relay_metrics   what these are made of

docs/outbox.md is for users.
"""
