"""Pure functions on arrays: correlation, bootstrap, robustness, pairs, ordering, two-alternative forced choice.

Nothing here knows of records, images or plugins. Quality is always higher-is-better; clusters are independent units:
references, or the photographs that several of them are cut from.
"""
