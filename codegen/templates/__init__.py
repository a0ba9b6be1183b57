"""The kernel skeletons: one jinja2 file for each structure of a kernel."""
