"""What things are: names, addresses, exclude_ips text, resources. Pure; imports nothing of ours."""
