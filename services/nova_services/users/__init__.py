"""users: what people say of themselves, what they prefer, and whom they do not want to meet.

    profiles     what others see, with an event for each change
    blocks       who has blocked whom; lifted ones stay for the audit (soft delete)
    preferences  a cache that is read through and written back
    hearing      what happens here when auth tells of somebody who came or left
    metrics      how many came, changed, blocked and left
    api          what the HTTP side says of itself
    service      the HTTP side
    rpc          what other services ask
    process      its flags, and how these are put together
    migrations/  for `nova-data migrate`, after `nova-data outbox install`; then `nova-data soft-delete install
                 --table blocks`

docs/backend.md is for users.
"""
