"""Low-rank updates on a frozen backbone: where they go, how they are trained and applied.

``families`` says where a model family keeps its projections, ``columns`` where a role stands in
a fused one, ``targets`` finds them, ``tt`` holds one expert's trainable
cores, ``hooks`` adds an update to a projection's output, ``pool`` serves many experts in one
batch. Nothing here replaces a module or changes a weight of the backbone.
"""
