"""Completions and chats as OpenAI has them, written by the bank's own experts."""
