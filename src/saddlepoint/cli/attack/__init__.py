"""`saddlepoint attack`: photographs, or a data set into a run folder."""
