"""What every wing may use: files, console, processes, provenance."""
