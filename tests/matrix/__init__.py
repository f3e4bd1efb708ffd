"""What only the wire can show: each fault's outcome, whole runs with faults at each call, processes that are killed.

``world`` is the bench and the scene of one case; ``case`` the enumeration of cases and what must hold after each.
"""
