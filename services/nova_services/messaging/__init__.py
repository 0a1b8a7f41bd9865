"""messaging: conversations over WebSockets, in which no message is lost and none comes twice.

    conversations   what is in PostgreSQL, a transaction for each thing that happens; its head has the argument
    frames          what goes over a WebSocket, both ways
    hub             the WebSockets of this process, by user, and who of them is behind
    wakeups         Redis: tells the other processes that there is something to read, and carries nothing
    staying         how long a WebSocket may stay, and with what code it is closed
    sessions        logins that have ended: who came with one must go
    trimming        streams go back a long way, and not for ever
    leaving         what somebody who is erased leaves behind
    permission      who may write to whom, by the blocks that users knows
    sending         a message from wherever it comes: stored, counted, told
    chat            one WebSocket
    watching        looks into PostgreSQL for whom nobody told, and says who is here
    metrics         how many talk, come back, and wait
    service         the HTTP side
    rpc             the gRPC side
    process         puts these together
    migrations/     for `nova-data migrate`, after `nova-data outbox install` and `nova-data dedup install`

docs/backend.md is for users.
"""
