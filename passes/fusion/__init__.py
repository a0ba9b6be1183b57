"""How ``fuse`` decides: what a choice of buffers means, what a region would cost, which buffers to move."""
