"""GraphQL as the cache needs it: what a request asks for (`request`), what a document contains (`document`), and which
class an operation is of (`classes`).

graphql-core is imported in `document` alone, which is loaded where `cache.graphql` is on. Nothing here does I/O.
"""
