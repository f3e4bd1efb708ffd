"""The protocol of off and on as pure functions over immutable values.

Standard library only: no I/O, no clock, no random numbers, no logging. Time and chance come in as data (``Tick``),
what EC2 answered comes in as data (``Result``), and what to do next goes out as data (``Step``).
"""
