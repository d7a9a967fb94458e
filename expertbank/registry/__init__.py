"""What the bank knows: a SQLite registry of tasks, experts, routers and what made them.

The room stores and finds records, refuses to change what was frozen, and upgrades its own
schema. It holds no tensors, reads no artifact files and never imports torch.
"""
