"""What a machine can do, and what an endpoint gives: findings with the next command to type.

    packages    what is installed, what is missing or too old   -> findings
    providers   a tiny model, run on everything offered         -> findings
    machine     cores, quota, instructions                      -> findings
    endpoint    texts to a running server of any protocol       -> its scores
    comparing   its scores beside the right ones                -> what they are, and what differs

Needs neither PyTorch nor a bundle, and reports a broken onnxruntime instead of failing on it.
"""
