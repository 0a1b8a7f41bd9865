"""Indexes that there must be, and how much they are worth.

wanted   from what somebody asks for to SQL
build    builds them while the table is in use; mends those that a broken run left
explain  shows plan and time of queries before and after, on data that it makes
"""
