"""Estimates over replicates by SciPy and statsmodels, for tests of experiments/evaluation/replicates.h.

    python tests/golden/make_replicates.py > tests/golden/replicates.json        # needs scipy and statsmodels
"""
import json
import random

import numpy as np
import scipy.optimize
import scipy.stats
import statsmodels.stats.multitest
import statsmodels.stats.weightstats


def fieller(a, b, confidence=0.95):
    """By its definition: the ratios r that a t-test of a − r b against 0 does not reject."""
    t = scipy.stats.t.ppf(0.5 + confidence / 2, len(a) - 1)

    def beyond(r):
        off = a - r * b
        return abs(off.mean()) / (off.std(ddof=1) / np.sqrt(len(off))) - t

    center = a.mean() / b.mean()
    step = 1e-6
    ends = []
    for sign in (-1, 1):
        far = step
        while beyond(center + sign * far) < 0:
            far *= 1.5
            if far > 1e6:
                return None
        ends.append(scipy.optimize.brentq(beyond, *sorted((center, center + sign * far)), xtol=1e-14))
    return ends


rng = random.Random(1)
cases = []
for n in (2, 3, 8, 8, 20):
    a = np.array([rng.gauss(0.1, 0.05) for _ in range(n)])
    b = np.array([rng.gauss(0.8, 0.1) for _ in range(n)])
    low, high = scipy.stats.t.interval(0.95, n - 1, a.mean(), scipy.stats.sem(a))
    line = scipy.stats.linregress(b, a)
    t = scipy.stats.t.ppf(0.975, n - 2) if n > 2 else None
    cases.append({"a": list(a), "b": list(b), "low": low, "high": high,
                  "p_above_0.05": scipy.stats.ttest_1samp(a, 0.05, alternative="greater").pvalue,
                  "p_below_0.12": scipy.stats.ttest_1samp(a, 0.12, alternative="less").pvalue,
                  "p_within_0_0.2": statsmodels.stats.weightstats.ttost_paired(a, np.zeros(n), 0, 0.2)[0],
                  "ratio": fieller(a, b),
                  "slope": line.slope, "slope_half": line.stderr * t if n > 2 else None,
                  "intercept": line.intercept, "intercept_half": line.intercept_stderr * t if n > 2 else None})
p_values = [0.01, 0.04, 0.03, 0.005, 0.9, 0.5]
print(json.dumps({"cases": cases, "p_values": p_values,
                  "holm": list(statsmodels.stats.multitest.multipletests(p_values, method="holm")[1])}, indent=1))
