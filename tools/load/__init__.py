"""`python -m tools.load`: sends a realistic mix of requests to a running service, and checks its metrics afterwards.

It knows only the HTTP interface of the service. It bounds the number, time and concurrency of its requests, and removes all that it made.
"""
