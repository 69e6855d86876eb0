"""Attempts at tasks: a handler runs to its end, whatever that is, in a thread, process or loop.

Workers inside and elsewhere share these. They reach the queue by an `AttemptQueue`.
"""
