"""graphql: one question for what several services know.

    asked       a request over HTTP, read
    documents   those that were sent once and are asked for by their hash
    errors      what went wrong and whose fault it was, as clients of GraphQL read it
    calls       questions to other services on behalf of one request, with a deadline and who asks
    upstreams   which services there are, and the connections to them
    answers     what they answer over HTTP
    types       the types of the schema, and how they are made of answers
    reading     its queries
    writing     its mutations
    schema      all of it, and its text
    service     the HTTP side
    api         what it says of itself
    metrics     how operations end, what they cost
    process     the command line and the process

How deep and how dear a document may be is not decided here: the sidecar reads it before (docs/graphql.md).
docs/backend.md is for users.
"""
