"""`saddlepoint certify`: the evaluation without attacks, or a proof of one property of one network."""
