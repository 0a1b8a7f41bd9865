"""State that sidecars share, in a store outside of them: what may be asked of it (`port`), the guard around every call
(`guarded`), and Redis (`redis_store`), which is imported where a store is configured.

A store is never needed to serve a request: whoever asks it also knows what to do without an answer.
"""
