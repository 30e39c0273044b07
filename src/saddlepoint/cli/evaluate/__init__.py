"""`saddlepoint evaluate`, and what `certify` shares with it."""
