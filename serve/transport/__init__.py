"""Connections by RFC 9112 within bounds, and standard error that blocks nobody."""
