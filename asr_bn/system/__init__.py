"""Atomic files, stamps, memory and TOML configurations: what the operating system gives."""
