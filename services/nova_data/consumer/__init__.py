"""A Kafka consumer that loses nothing, does nothing twice, and keeps order where there is one to keep.

    message       what a handler is given
    ledger        which offsets of a partition are done: policy alone
    flow          which partitions are to be paused: policy alone
    outage        whether it is the message's fault or everybody's: policy alone
    reader        the thread that speaks with Kafka; its head says what happens at a rebalance
    lanes         a partition's messages on the event loop: side by side, and in order within a key
    attempt       one call of a handler, and how it ended
    batches       several messages in one call; its head says what a failure of it means
    handling      one message: attempts, waits, and what becomes of it
    consumer      puts these together
    process       runs it until SIGTERM, with /metrics and /healthz
    dead_letters  where messages go that cannot be handled, and how they come back
    keys          which key an event should have
    metrics       what is counted

Effects take place once by `nova_data.dedup`; docs/consumer.md is for users.
"""
