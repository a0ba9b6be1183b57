"""Runs Triton kernels on the CPU: a small evaluator of the Triton language over numpy arrays.

Why not Triton's own interpreter: on tiles of usual size it spends sixty times longer on its type objects than on
arithmetic, it multiplies the raw bits of bf16 operands, truncates fp32 to bf16, combines custom reductions one
element at a time, and works by replacing attributes of ``triton.language`` for the whole process. Here a kernel's text
runs in a namespace in which ``triton`` and ``triton.language`` are this package's: nothing is patched, Triton is not
even imported, several threads may run kernels at once, and an access outside its buffer raises instead of corrupting
memory.

What is promised: the same types and promotions as Triton's, every narrow float rounded to nearest even after each
operation, dot products accumulated in fp32. Programs of a grid run one after another, in order.
"""
