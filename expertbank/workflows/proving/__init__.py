"""What proves that nothing was lost: the report, and running what was measured again."""
