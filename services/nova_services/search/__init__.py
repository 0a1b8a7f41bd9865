"""search: what everybody may see, found by its words.

    documents   what events say, read: posts and people as the index takes them
    index       what is in PostgreSQL, a transaction for each event, in whatever order events come
    indexer     the consumer of the topics, and how the index is made anew
    api         the types of its one operation
    service     the HTTP side
    metrics     how much is asked, and how often in vain
    process     the command line and the process
    migrations/ for `nova-data migrate`, after `nova-data dedup install`

docs/backend.md is for users.
"""
