"""What the API stands on: each module is one integration, without HTTP."""
