"""What ``tile`` chooses: the roles and sizes of a region's axes, one file for each kind of region."""
