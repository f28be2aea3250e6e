"""A federation in one process: the real ServerApp, ClientApp, driver, journals and database, over memory and a virtual clock.

Nothing in here reads a real clock or the system's randomness, but for `tally`, which measures and decides nothing; one seed decides everything, so
a run can be repeated to the bit.
"""
