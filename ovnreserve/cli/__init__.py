"""The command line. It starts fast: it imports neither ovs, ovsdbapp nor structlog."""
