"""The use cases behind ``Bank``'s short methods, parted by what they serve."""
