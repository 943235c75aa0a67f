"""Bytes on the wire: HTTP connections (RFC 9112) with bounds on everything; log lines that never block."""
