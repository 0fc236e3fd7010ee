"""`edgecxr bench`: how fast a bundle is on this machine, with everything that is needed to believe it.

    pictures      which pictures a measurement runs on
    sessions      each artifact on each installed engine, loaded
    rounds        cases in turn, percentiles with their spread
    stages        where the time of one picture goes
    cold          fresh processes: time to the first record, peak memory
    environment   the machine's fingerprint, its settings, and what it did meanwhile
    quick         the default measurement, from these
    mlperf        one artifact by MLPerf Inference's rules (extra: loadgen)
    sustained     throughput over time
    report        the schema of what is written; `compare` two of them, `timm` for CSV

`table`, `page` and `plots` show it (the last two: extra eval).
"""

from edgecxr.bench.pictures import golden_files
from edgecxr.bench.quick import bench
from edgecxr.pictures.sample import sample_files, spread

__all__ = ["bench", "golden_files", "sample_files", "spread"]
