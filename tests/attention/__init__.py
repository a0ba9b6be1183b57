"""Attention as papers and model code spell it: functions of plain tensors, each with the shapes that it takes."""

from tests.attention.biases import biases, sinks
from tests.attention.heads import heads
from tests.attention.masks import masks
from tests.attention.scores import others, scales, softmaxes

TABLES = (heads, scales, softmaxes, masks, biases, sinks, others)
VARIANTS = {name: variant for table in TABLES for name, variant in table.variants.items()}
