"""What a hospital's day asks of a server, one shape of load in each module."""
