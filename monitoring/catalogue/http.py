"""HTTP requests, counted by the middleware. No label holds a raw path or a raw method."""

from .buckets import BYTES, HTTP_SECONDS
from .declaration import Rule, counter, gauge, histogram

_REQUEST = ("method", "endpoint")

http_requests = counter(
    "http_requests", "Finished HTTP requests: also 404, 405, redirects, disconnects (499) and errors (500).", (*_REQUEST, "status")
)
http_request_duration_seconds = histogram("http_request_duration_seconds", "Time to the last byte of the response.", HTTP_SECONDS, _REQUEST)
http_time_to_first_byte_seconds = histogram("http_time_to_first_byte_seconds", "Time to the start of the response.", HTTP_SECONDS, _REQUEST)
http_request_size_bytes = histogram("http_request_size_bytes", "Bytes of the request's body that the application read.", BYTES, _REQUEST)
http_response_size_bytes = histogram("http_response_size_bytes", "Bytes of the response's body that were sent.", BYTES, _REQUEST)
# Summed over living workers: a request of a dead worker is not in progress.
http_requests_in_progress = gauge(
    "http_requests_in_progress", "Requests whose response is not complete yet, in living workers.", Rule.LIVE_SUM, ("method",)
)
