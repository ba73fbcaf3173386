"""The whole protocol as one document, made from the classes that run.

`words` finds them, `schemas` says what their fields are, `examples` shows each once and `rules`
adds what stands in no class. `asyncapi` is the document for machines; `tables` are for people,
on the page and in `markdown`.
"""
