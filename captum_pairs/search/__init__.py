"""Search with reasons: embeddings of many inputs, what a query finds among them, why
one stands before another, and why two wordings find different ones.

An index (:class:`captum_pairs.Index`) comes from
:meth:`captum_pairs.DualEncoder.index`.
"""
