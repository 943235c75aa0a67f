"""What every package may use: atomic files, stamps, memory, types of arrays, TOML configurations."""
