"""content: posts, comments, follows, and the feed that is made of them.

    forms       what goes in and out over HTTP, and what events say of it
    accounts    whose account is closed, and the lock that keeps writes and closing apart
    posts       posts and feeds in PostgreSQL; reads go to a replica where there is one
    comments    comments in PostgreSQL
    follows     who follows whom, in PostgreSQL
    erasing     removal for good of what somebody who is erased has left here
    reading     what somebody may see of what is there
    metrics     what is counted of posts, comments and follows
    api         what the HTTP side says of itself
    service     the HTTP side
    rpc         the gRPC side, PostsService
    process     all of it as one process
    migrations/ for `nova-data migrate`, before `nova-data soft-delete install` and `nova-data indexes`

docs/backend.md is for users.
"""
