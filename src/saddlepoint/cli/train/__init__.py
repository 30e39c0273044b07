"""`saddlepoint train`."""
