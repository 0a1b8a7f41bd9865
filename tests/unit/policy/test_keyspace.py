"""Keys tell services and policies apart, and what belongs together is in one slot."""

from nova_sidecar.policy.keyspace import key_prefix


def tag(key: str) -> str:
    """What of a key decides about its slot (Redis Cluster specification, "Hash tags")."""
    begin = key.find("{")
    end = key.find("}", begin + 1)
    return key[begin + 1 : end] if begin >= 0 and end > begin + 1 else key


def test_every_owner_and_policy_has_keys_of_its_own() -> None:
    prefixes = {
        key_prefix(owner, policy, together=together)
        for owner in ("default/shop", "stage/shop")
        for policy in ("rate", "cache")
        for together in (False, True)
    }
    assert len(prefixes) == 8
    assert key_prefix("default/shop", "session") == "nova:default/shop:session:"


def test_keys_that_a_script_touches_are_in_one_slot() -> None:
    prefix = key_prefix("default/shop", "rate", together=True)
    assert tag(prefix + "a") == tag(prefix + "b") == "default/shop:rate"
    assert tag(key_prefix("default/shop", "jwt") + "a") != tag(key_prefix("default/shop", "jwt") + "b")
