"""HTTP routes by user: customers, mechanics, anyone with a token, operators."""
