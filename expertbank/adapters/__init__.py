"""Low-rank updates on a frozen backbone: where they go, how they are trained and applied.

``targets`` names the projections of a model family, ``tt`` holds one expert's trainable
cores, ``hooks`` adds an update to a projection's output, ``pool`` serves many experts in one
batch. Nothing here replaces a module or changes a weight of the backbone.
"""
