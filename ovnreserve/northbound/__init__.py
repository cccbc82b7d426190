"""OVSDB: the only room that speaks to the northbound database."""
