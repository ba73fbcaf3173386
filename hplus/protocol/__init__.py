"""The published protocol: one source, the message classes that run, and two outputs.

`registry` finds the classes, `schemas` derives their JSON Schemas, `examples` shows each once, and `rules`
holds what stands in no class. `asyncapi` is the output for machines. `document` is the one for people, made
of `blocks` that are written as Markdown (docs/protocol.md) and as HTML (the page /protocol/).
"""
