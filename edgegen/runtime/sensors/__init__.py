"""What a device says about its heat, power and clocks: one small parser per source, all read under a root that tests can fake.

A reading that is missing or makes no sense is None with the reason, never a wrong number. Python >= 3.8, standard library only.
"""

from __future__ import annotations
