"""recommendations: posts of people whom one does not follow yet, computed before anybody asks.

    topics ─▶ consumer ─▶ analytics store ─▶ precompute, at a pace ─▶ Redis, 30 min ─▶ GET /recommendations
                                                                          └─ nothing there: the feed, by time

    port        what an analytics store is asked, and the port that both kinds have
    embedded    the store in this process: chdb
    clickhouse  the store behind a URL: ClickHouse by HTTP
    warehouse   tables, inserts in batches, and queries, of which identical ones in flight are one
    events      from an event to a row. No I/O
    ranking     which posts, in which order. No I/O, no clock
    pace        how much of the time may be computed. No clock
    shelf       what is ready, in Redis
    precompute  who gets new recommendations, and when
    metrics     hits, fallbacks and what a recommendation costs
    api         what the HTTP side says of itself
    service     the HTTP side
    process     all of it as one process

No request ever waits for the analytics. docs/backend.md is for users.
"""
