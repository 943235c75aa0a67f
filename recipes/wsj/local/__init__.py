"""Data preparation from the LDC disks of the Wall Street Journal corpus."""
