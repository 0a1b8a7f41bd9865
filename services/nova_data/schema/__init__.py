"""Changes of a database while it is in use: migrations, soft delete, indexes.

    statements   SQL text into statements, by PostgreSQL's own parser
    locks        which locks a statement takes, by PostgreSQL's documentation
    patience     how long a lock is waited for, and when it is tried again
    database     a connection with a deadline for everything, and one migrator at a time
    files        a folder of migrations
    ledger       what has been applied, in the database itself
    agenda       what is to be done: the folder against the ledger
    migrate      does it
    trial        what migrations would do: as PostgreSQL documents it, or tried and taken back
    steps        changes in small steps, of which soft delete and indexes are made
    index_state  whether an index can be used

    soft_delete  rows that are deleted stay, and say when and by whom
    indexes      indexes that there must be, and what they are worth

One rule stands above all of them: no statement may make the traffic wait. A lock that conflicts with reads or writes is
waited for briefly, because everybody who comes later waits behind it (PostgreSQL 13.3.4); it is held briefly; and what
takes long is done under a lock that lets traffic pass.
"""
