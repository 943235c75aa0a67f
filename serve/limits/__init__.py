"""Fair shares among clients, estimates of times, and the exceptions by which a request is refused."""
