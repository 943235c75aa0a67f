"""The posterior server."""
