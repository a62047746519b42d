"""Development tools. The wheel does not contain them."""
