"""The `oskdft` command and what it calls that is no library."""
