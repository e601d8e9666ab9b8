"""Names of tables, which suites are checked against and reports made from: apart, because neither may import the other.

Reports need no torch, and a suite is validated without pandas.
"""

TABLE_NAMES = (
    "attacks",
    "srocc",
    "shift",
    "pair_accuracy",
    "ordering",
    "two_afc",
    "per_type",
    "transfer",
    "adequacy",
    "verdicts",
)
"""What a suite may ask for under ``tables:``, in the order of a report."""
