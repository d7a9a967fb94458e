"""One of each thing that can be added to expertbank, about as small as it can be."""
