"""The technical file of a bundle: what there is to show, with where each claim is from; no claim of conformity.

    claims        a claim, and the command and file that it came from
    model         what the bundle and its card say
    evidence      what verify and bench found here, and what is given;  reports  bench, eval and audit as claims
    difference    what changed since an earlier bundle
    hazards       SECURITY.md's table of hazards, with the tests that it names
    sbom          the runtime that is installed, as CycloneDX;  mlbom  the model, as CycloneDX
    file          all of it put together: a page, the same as JSON, and the files that they cite;  page  the page

`sbom`, `mlbom`, `page` and `file` need the extra `report`.
"""
