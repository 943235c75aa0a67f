"""Settings, fair shares among clients, and the exceptions by which a request is refused."""
