"""fusednn's kernels in PyTorch programs: `fusednn.torch.optim`."""
