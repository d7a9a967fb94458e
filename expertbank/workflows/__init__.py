"""One use case a file, joining the rooms: the bodies behind ``Bank``'s short methods."""
