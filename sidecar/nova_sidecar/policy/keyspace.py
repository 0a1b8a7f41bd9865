"""How the keys of a Redis begin that services, and policies of one service, share."""


def key_prefix(owner: str, policy: str, *, together: bool = False) -> str:
    """`nova:OWNER:POLICY:`, where the owner is a service, `namespace/name`.

    `together`: in a Cluster all such keys lie in one slot, so that a script may touch several of them (Redis Cluster
    specification, "Hash tags"): what is in braces decides about it.
    """
    return f"nova:{{{owner}:{policy}}}:" if together else f"nova:{owner}:{policy}:"
