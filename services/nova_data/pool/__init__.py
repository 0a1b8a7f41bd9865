"""An app's pool of connections to PostgreSQL, with what a pool needs so that one mistake does not take the service
down.

`Database` (`nova_data.pool.database`) is asyncpg's pool behind the pool guard, with a deadline for each wait and
statement, a share of the pool for each tenant, a watch on connections that nobody gives back, and a log of slow
statements. What it decides is decided in modules without a clock or a connection: `quota`, `leaks`, `slow`,
`statements`, `sizing`.

The guard itself (`nova_data.pool_guard`) stands outside: it goes around any pool, of any driver.
"""
