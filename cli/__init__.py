"""The command line, installed as ``expertbank_cli``; imports nothing heavy until a command runs."""
