"""Ring four: what happens to a request. `Exchange` joins both sides, flat filters apply the policies in one order.

`proxy.Proxy` is the whole data path as one object; `stats` is what it counts.
"""
