"""Files that survive a crash, and what stands in them."""
