"""The paper: encoder, teacher, student, back-ends, losses, objective, strategies.

Reading order: `encoder`, `student`, `teacher`, `backends`, `losses`, `model`, `objective`, `strategies`.
`contract` checks code from outside the package; `library` imports transformers.
The wing imports torch, transformers and the configuration, and knows no files and no corpora.
"""
