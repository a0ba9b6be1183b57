"""Two dumps side by side: what another version, option or device changes in what is compiled."""
