"""The processes of a running server, and their memory."""

import psutil


def server_processes(port: int) -> list[psutil.Process]:
    """Find the processes of the server on ``port``."""
    listening = [c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and not c.raddr]
    process = psutil.Process(listening[0].pid)
    return [process, *process.children(recursive=True)]


def memory(processes: list[psutil.Process]) -> int:
    """Return the bytes that ``processes`` hold."""
    return sum(process.memory_info().rss for process in processes)
