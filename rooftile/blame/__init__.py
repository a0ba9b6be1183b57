"""Which part of the compiler is to blame for an error: ``check`` measures each part alone, ``bisect`` isolates one."""
