"""notification: what people should hear of, made of the events of other services.

    notices        which event tells whom of what: policy alone
    notifications  what is in PostgreSQL
    effects        what becomes of an event, once
    keeping        how long notifications are kept
    forms, api     what goes in and out over HTTP
    service        the HTTP side
    rpc            the gRPC side
    metrics        what was told and read
    process        puts these together
    migrations/    for `nova-data migrate`

docs/backend.md is for users.
"""
