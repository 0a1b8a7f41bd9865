"""Changes of a database while it is in use: migrations, soft delete, indexes.

    statements  SQL text into statements, by PostgreSQL's own parser
    locks       which locks a statement takes, by PostgreSQL's documentation
    patience    how long a lock is waited for, and when it is tried again
    database    a connection with a deadline for everything, and one migrator at a time
    files       a folder of migrations
    ledger      what has been applied, in the database itself
    agenda      what is to be done: the folder against the ledger
    migrate     does it

One rule stands above all of them: no statement may make the traffic wait. A lock that conflicts with reads or writes is
waited for briefly, because everybody who comes later waits behind it (PostgreSQL 13.3.4); it is held briefly; and what
takes long is done under a lock that lets traffic pass.
"""
