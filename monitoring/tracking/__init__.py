"""Decorators that count, time and classify an application's calls."""
