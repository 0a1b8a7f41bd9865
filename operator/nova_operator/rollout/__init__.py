"""Canaries: a changed pod template comes into force in steps, beside the stable version, and must prove itself.

`machine` decides what comes next and `wanted` what follows from it for the children; both are pure. `judge` compares
the two versions with the tests of `sequential`, on the differences of the sidecars' counters that `evidence` sums up.
`arrange` turns the children of a plain service into those of a canary. `conduct` is the only part that remembers.

The status is written before the children, so that a decision outlives whoever made it: an operator that is killed
after it decided to roll back finds that in the status, and rolls back.
"""
