"""Active set and homotopy on whole batches of torch tensors, on any device."""
