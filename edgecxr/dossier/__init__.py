"""The technical file of a bundle: what there is to show, with where each claim is from; no claim of conformity.

    claims        a claim, and the command and file that it came from
    model         what the bundle and its card say
    evidence      what verify, bench, eval and audit found: here, or in reports that are given
    difference    what changed since an earlier bundle
    hazards       SECURITY.md's table of hazards, with the tests that it names
    sbom          the runtime that is installed, as CycloneDX;  mlbom  the model, as CycloneDX
    file          all of it put together: a page, the same as JSON, and the files that they cite

Everything but `claims`, `hazards` and `difference` needs the extra `report`.
"""
