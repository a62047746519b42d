"""Verifies the counters of a running service from outside: acknowledged <= counted <= sent.

The caller records each request in a `Ledger`, and compares the ledger with two scrapes. This works for the counters of any service.
"""
