"""The fault matrix: every fault at every API call of every mode, and what must hold afterwards.

``faults`` is the catalogue, ``world`` the bench and the scene of one case, ``case`` the enumeration and the checks.
"""
