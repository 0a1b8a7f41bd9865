"""Fewer calls for the same answers: those that are the same at once are one, and loads of single keys become batches.

`Coalescer` shares one call among all who want the same while it is under way, `Batcher` collects keys for 10 ms and
loads them together. Both keep nothing beyond the call; what keeps answers is `nova_data.cache`.
"""
