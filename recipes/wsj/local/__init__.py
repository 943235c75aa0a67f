"""What ``run.sh`` is made of, and data folders from the LDC disks of the Wall Street Journal corpus."""
