"""What clients send and get, as bytes and as arrays: bodies, parameters, tensors, answers, schemas."""
