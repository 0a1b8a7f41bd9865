"""auth: accounts, logins and the tokens that sidecars let people in by.

    keys        the folder of signing keys: which one signs today, and what is published
    tokens      access tokens, which anybody can check for minutes; refresh tokens, which only auth knows
    passwords   how they are kept, and why an unknown address takes as long as a wrong password
    accounts    what is in PostgreSQL, a transaction for each thing that happens
    metrics     how many came, and how many came in
    sweeping    removes sessions that have long been over
    service     the HTTP side
    api         what it says of itself
    rpc         what other services ask
    process     its flags, and how these are put together
    migrations/ for `nova-data migrate`, after `nova-data outbox install`

docs/auth.md is for users.
"""
