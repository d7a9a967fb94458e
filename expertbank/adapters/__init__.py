"""Low-rank updates on a frozen backbone: where they go, how they are trained and applied.

``families`` says where a model family keeps its projections and ``columns`` where a role stands
in a fused one; ``targets`` finds what to adapt and ``probe`` tries models outside the table.
``tt`` holds one expert's trainable cores, ``hooks`` adds an update to a projection's output,
``pool`` serves many experts in one batch. Nothing here replaces a module or changes a weight of
the backbone.
"""
