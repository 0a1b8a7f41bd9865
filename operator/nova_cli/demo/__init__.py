"""`nova demo`: brings everything up and shows, against running pods and with real traffic, what Nova gains.

`bring_up` puts the pieces in place, `stage` reaches them, `claims` and `request_claims` hold one function per claim,
`command` runs them.
The end-to-end tests assert the same claims, so the demo cannot promise what the tests do not hold.
"""
