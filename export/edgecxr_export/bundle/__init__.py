"""The bundle's files: what stands in them, and how they come onto the disk."""
