"""`python -m tools.load`: a realistic mix of calls against a running service, and what its metrics must have counted afterwards.

It knows the service by its HTTP alone. What it sends is bounded in number, time and concurrency, and what it makes it removes.
"""
