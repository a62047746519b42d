"""One router per integration."""
