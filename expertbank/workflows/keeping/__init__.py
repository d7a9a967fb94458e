"""What keeps a bank sound: verify, gc, remove, restore, doctor."""
