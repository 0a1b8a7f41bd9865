"""The reference services: the small backend that the demo and the end-to-end tests run behind sidecars.

`storefront` calls `catalog`, as services do: by name, with a correlation id, without any protection of its own. What
protects them is Nova. The others are the reference backend (docs/backend.md), one package each, which have databases
and use the data tools; nothing here knows of operator or sidecar. What they share:

    web, correlation, logs   HTTP: the middlewares, the id and the trace, a line for each request
    rpc                      gRPC: the same
    bodies, identity, openapi   what is read of a request, and what is said of that
    blocks                   who has blocked whom, which users is asked for
    errors                   what a service says no with; `web` and `rpc` have the answers
    options                  flags
    backing                  a database, metrics, Redis, and what is answered while one of them is away
    background               work beside what is served; the process ends where it fails
    consuming                effects of events, each once
    closing                  who was erased writes nothing any more
    erasing, removal         a person's rows are removed, and that is noted: in one transaction, or some at a time
    schemas                  what all services say of themselves, kept as files
"""
