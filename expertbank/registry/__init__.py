"""What the bank knows: tasks, experts, routers and what made them, in SQLite or PostgreSQL.

The room stores and finds records, refuses to change what was frozen, and upgrades its own
schema. It holds no tensors, reads no artifact files and never imports torch.
"""
