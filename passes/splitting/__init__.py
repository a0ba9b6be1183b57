"""How ``split`` makes two regions of one: the ops over parts of an axis, and the states of a whole from its parts'."""
